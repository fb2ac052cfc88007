"""Runs with other values than params.yaml has: experiments of DVC, each in a workspace of its own.

The workspace is a clone of the study's git repository with its files as they are, committed or not, in
.work/experiments/<name>. It shares DVC's cache, so that only what the values change is computed. At the end `dvc exp
save` makes the experiment, and the study fetches it: `dvc exp show` lists it, and the study's own files stay as they
are. The workspace of a run that failed goes on where it ended; of others only the newest is kept whole.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows import dvcx
from flows.workspace import DONE, DVC_ROOT, EXPERIMENT, FOLDER, ExperimentError, git, made, run, top_of

GENERIC = ("models", "training", "args", "family", "consortium", "score", "sample", "uses", "params")
LONGEST = 60  # of an experiment's name


@dataclass(frozen=True)
class Opened:
    """Where a run takes place: the study's folder, or the workspace of the experiment `name`."""

    root: Path
    study: Path
    name: str = ""

    def save(self, stages: Iterable[str]) -> None:
        """Make the experiment of what these stages have computed, and show it to the study."""
        if self.name and (done := list(stages)):
            run(*dvcx.DVC, "exp", "save", "--force", "--name", self.name, *done, cwd=self.root)
            refs = f"refs/exps/*/{self.name}"
            git("fetch", "-q", "--force", "--no-tags", str(top_of(self.root)), f"{refs}:{refs}", cwd=self.study)

    def done(self) -> None:
        """Mark the workspace as one that no later run goes on in."""
        if self.name:
            (self.root / DONE).touch()


def words(given: str | list[str]) -> list[str]:
    """Return the params file and the overrides that were given: one text, or a list of texts."""
    try:
        return [word for text in ([given] if isinstance(given, str) else given) for word in shlex.split(text)]
    except ValueError as error:
        raise ExperimentError(f"{given!r} is no list of overrides: {error}") from error


def name_of(given: str | list[str]) -> str:
    """Return the experiment's name, which says what differs: "vae-rounds-20"; "" where nothing does."""
    parts = []
    for word in words(given):
        key, _, value = word.partition("=")
        kept = [part for part in key.lstrip("+~").split(".") if part not in GENERIC]
        parts.append("-".join([*kept[-3:], value]) if "=" in word else Path(word).stem)
    said = "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", part).strip("-.") for part in parts)
    return re.sub(r"(\.\.|-\.|\.-|--)[.-]*", "-", said)[:LONGEST].strip("-._") or ("values" if parts else "")


def place(study: Path, given: str | list[str]) -> Path:
    """Return the folder in which a run takes place."""
    name = name_of(given)
    return study / FOLDER / name / study.relative_to(top_of(study)) if name else study


@contextmanager
def opened(study: Path, given: str | list[str]) -> Iterator[Opened]:
    """Make the workspace, and let this process and its children work in it; the study itself without other values.

    Raises ExperimentError where the study is in no git repository or has no commit, or a value cannot be read.
    """
    if not (name := name_of(given)):
        yield Opened(study, study)
        return
    before, environment = os.getcwd(), dict(os.environ)
    root = made(study, name, words(given))
    os.environ |= {"FEDSYNTH_ROOT": str(root), DVC_ROOT: str(study), EXPERIMENT: name}
    os.environ |= {key: str((study / value).resolve()) for key in ("FEDSYNTH_KIT", "FEDSYNTH_POLICY", "PREFECT_HOME")
                   if (value := os.environ.get(key))}  # fmt: skip
    os.environ.setdefault("FEDSYNTH_EXTRACTORS", str(study / "extractors"))
    os.chdir(root)
    try:
        yield Opened(root, study, name)
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environment)
