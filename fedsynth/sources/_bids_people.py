"""Labels and sites by BIDS' participants.tsv and sub-*_sessions.tsv."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from fedsynth.data.manifest import SetError
from fedsynth.data.people import PERSON
from fedsynth.params import Image
from fedsynth.sources._indexed import only_label
from fedsynth.sources._tables import text_table

PEOPLE, SESSIONS = "participants.tsv", "sub-*/sub-*_sessions.tsv"
UNKNOWN = ("", "n/a")


@dataclass(frozen=True)
class Person:
    """Label, site, sex and age of a session; `problem` where one that is asked for is not known."""

    label: str
    site: str
    problem: str
    sex: str = ""
    age: str = ""


class People:
    """`label` and `site` are columns, `label` is empty where no table tells it; `sited`: whether each needs a site."""

    def __init__(self, folder: Path, image: Image, label: str, site: str, sited: bool):
        self.folder, self.image, self.label, self.site, self.sited = folder, image, label, site, sited

    @property
    def files(self) -> Iterable[str]:
        tables = [self.folder / PEOPLE, *self.folder.glob(SESSIONS)]
        return [path.relative_to(self.folder).as_posix() for path in tables if path.is_file()]

    def of(self, subject: str, session: str) -> Person:
        """Site by the participant's row; label, sex and age by the session's own, or else by the participant's.

        Raises SetError for a table that cannot be used.
        """
        row, own = self._rows.get(subject), self._session(subject, session)
        person = row or {}
        site, label = person.get(self.site, ""), own.get(self.label, person.get(self.label, ""))
        if not self.label:
            label = only_label(self.image, f"name in source.args.label the column of {PEOPLE} that does")
        where, problem = f"{subject}_sessions.tsv" if self.label in own else PEOPLE, ""
        if row is None and self._rows and (label in UNKNOWN or self.sited):
            alike = [other for other in self._rows if _bare(other) == _bare(subject)]
            said = f", which names {alike[0]!r}" if alike else ""
            problem = f"{subject} has no row in {PEOPLE}{said}; add it, or take the folder away"
        elif label in UNKNOWN:
            whose = f"{subject}/{session}".rstrip("/")
            problem = f"{whose} has no {self.label} in {where}; add it, or take the folder away"
        elif self.sited and site in UNKNOWN and self._has_sites:
            problem = (
                f"{subject} has no {self.site} in {PEOPLE}; add it, or give source.args.partition a kind and sites"
            )
        told = {column: (person | own).get(column, "") for column in PERSON}
        known = {name: "" if of == "n/a" else of for name, of in {"label": label, "site": site, **told}.items()}
        return Person(problem=problem, **known)

    def said(self, subject: str, session: str) -> dict[str, str]:
        """All that the tables say of a session."""
        return self._rows.get(subject, {}) | self._session(subject, session) | {"subject": subject, "session": session}

    def notes(self, subject: str) -> list[str]:
        """What was changed on reading."""
        written = self._rows.get(subject, {}).get("participant_id", subject)
        return [f"{PEOPLE} calls {subject} {written!r}"] if written != subject else []

    @property
    def _has_sites(self) -> bool:
        return any(row.get(self.site, "") not in UNKNOWN for row in self._rows.values())

    @cached_property
    def _rows(self) -> dict[str, dict[str, str]]:
        """Rows of participants.tsv by subject. Raises SetError naming the file where it lacks the label, which no
        session has, or says two things of one subject.
        """
        path = self.folder / PEOPLE
        of_sessions = any(self.label in table for table in self._sessions.values())
        if not path.is_file() and (not self.label or of_sessions):
            return {}
        needed = ["participant_id", *[self.label] * (bool(self.label) and not of_sessions)]
        table = text_table(path, needed, "BIDS has participants' labels and sites there")
        subjects = table["participant_id"].map(_prefixed)
        same = table.assign(participant_id=subjects).duplicated()
        table, subjects = table[~same], subjects[~same]
        if (twice := subjects.duplicated()).any():
            line = twice.idxmax()
            raise SetError(f"{path}: line {line} says something else of {subjects[line]} than a line before; keep one")
        return dict(zip(subjects, table.to_dict("records"), strict=True))

    def _session(self, subject: str, session: str) -> dict[str, str]:
        """The row of a session, empty where there is none. Raises SetError where there are several."""
        table = self._sessions.get(subject)
        if table is None or not session:
            return {}
        rows = table[table["session_id"].map(lambda name: f"ses-{name.removeprefix('ses-')}") == session]
        if len(rows) > 1:
            raise SetError(f"{subject}_sessions.tsv has {len(rows)} rows of {session}; keep one")
        return rows.iloc[0].to_dict() if len(rows) else {}

    @cached_property
    def _sessions(self) -> dict[str, pd.DataFrame]:
        """Tables of sessions by subject."""
        found = {path.parent.name: path for path in sorted(self.folder.glob(SESSIONS))}
        return {
            subject: text_table(path, ["session_id"], "BIDS has a subject's sessions there")
            for subject, path in found.items()
        }


def _bare(subject: str) -> str:
    """Without the zeros that spreadsheets take away."""
    return subject.removeprefix("sub-").lstrip("0")


def _prefixed(participant: str) -> str:
    """ "sub-01", also where a table says "01"."""
    return f"sub-{participant.strip().removeprefix('sub-')}"
