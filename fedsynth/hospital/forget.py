"""A patient withdraws: out of the site's set, and out of all that the site keeps that was made from their images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from fedsynth.data import manifest, removal
from fedsynth.errors import UserError
from fedsynth.hospital import trained, withdrawals
from fedsynth.hospital.chain import ChainError
from fedsynth.hospital.record import Record
from fedsynth.params import names
from fedsynth.settings import Settings

KEPT = {
    withdrawals.FORGOTTEN: "whom the next ingest leaves out; it holds no name",
    withdrawals.WITHDRAWN: "digests of earlier sets, which the centre is told",
    trained.FOLDER: "which models were trained with which set; it holds no name, and not theirs any more",
    "lock": "keeps two commands that change the set apart",
    "secret": "the site's own, made from no image",
    "canaries": "how many images of no patient a training had",
    "policy": "what the hospital allows",
    "record": "what has left: the proof of it, which a withdrawal does not undo",
    "ledger": "what was spent of privacy, which a withdrawal does not give back",
}
UNKNOWN = "not known to this command: look whether it was made from their images"
BEYOND = (
    "their files at the source ({source}), with backups and snapshots of all these folders: delete them there",
    "logs of jobs, `kit/<job id>/`: they may name rows and files: delete those folders",
    "copies that people made, for instance pages that `look --to` or `validate --docs` wrote elsewhere",
)
RELEASED = (
    "what has left this site is not taken back by this: differences that were sent are in the models that came of them,"
    " synthetic sets that were drawn from these are where they were sent, and numbers are in reports",
    "the centre learns at its next `source` that sets were withdrawn, by their digests alone; it marks the models that"
    " were trained with them as stale, and trains anew",
)


class ForgetError(UserError):
    """Nobody was forgotten; the message says why, and names no patient but those that were asked for."""


@dataclass(frozen=True)
class Site:
    """A site's two folders, and its name where its set says it."""

    name: str
    data: Path
    state: Path


@dataclass
class Withdrawal:
    """What will be done, or was done; texts for a person at the site."""

    site: Site
    subjects: list[str]
    images: int
    digests: list[str]
    models: list[str]
    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    running: bool = False


def site_of(settings: Settings, named: str) -> Site:
    """Return the site of a name or a key. Raises ForgetError where there is neither a set nor a state of it."""
    key = names.key(named)
    site = Site(named, settings.data / key, settings.state / key)
    if not (site.data / manifest.FILE).is_file() and not site.state.is_dir():
        there = sorted(p.parent.name for p in settings.data.glob(f"*/{manifest.FILE}"))
        raise ForgetError(
            f"there is no site {named!r}: {settings.data} holds {', '.join(there) or 'no set'} (FEDSYNTH_DATA) and"
            f" {settings.state} nothing of it (FEDSYNTH_STATE)"
        )
    return site


def plan(site: Site, subjects: list[str], show: bool = False) -> Withdrawal:
    """Return what a withdrawal of these subjects would do; nothing is changed.

    Raises ForgetError for one that the site does not know: neither in its set, nor in one that was trained with, nor
    forgotten before. Names that are similar are told with `show` alone.
    """
    asked = list(dict.fromkeys(names.normal(subject) for subject in subjects))
    if not asked or not all(subject.strip() for subject in asked):
        raise ForgetError("no subject was named; images without a subject are nobody's: take them out of the source")
    rows = _rows(site)
    _known(site, asked, rows, show)
    theirs = _theirs(rows, asked)
    digests = trained.sets_with(site.state, asked) | ({_digest(site)} if theirs.any() else set())
    found = Withdrawal(site, asked, int(theirs.sum()), sorted(digests), _models(site, sorted(digests)))
    found.removed = [
        f"{path}: {withdrawals.MADE[path.name.partition('.')[0]]}" for path in withdrawals.made(site.state)
    ]
    found.kept = list(_kept(site))
    found.running = any((site.state / withdrawals.RUNNING).glob("*"))
    return found


def carry_out(withdrawal: Withdrawal) -> None:
    """Do it. It can be done again, and completes what was interrupted: what must not be lost is written first.

    Raises ForgetError where a folder cannot be written to.
    """
    try:
        _carry_out(withdrawal)
    except OSError as error:
        raise ForgetError(f"not all is done: {error}; mend that and give the same command again") from error


def _carry_out(withdrawal: Withdrawal) -> None:
    site, asked, digests = withdrawal.site, withdrawal.subjects, withdrawal.digests
    with withdrawals.alone(site.state):
        withdrawals.record(site.state, asked, digests)
        if digests:
            _note(withdrawal)
        withdrawals.sweep(site.state)
        if (site.data / manifest.FILE).is_file():
            removal.take_out(site.data, lambda rows: _theirs(rows, asked))
        trained.drop(site.state, asked)


def _note(withdrawal: Withdrawal) -> None:
    """Write it into the site's record, without a name. A damaged record is said, and holds no withdrawal up."""
    entry = {"what": "withdrawn", "job": "", "patients": len(withdrawal.subjects), "images": withdrawal.images}
    try:
        Record(withdrawal.site.state).add(entry | {"sets": withdrawal.digests})
    except ChainError as error:
        withdrawal.kept.append(f"the record, which this could not be written to: {error}")


def words(withdrawal: Withdrawal, settings: Settings, done: bool) -> str:
    """Return what is removed, what is kept and why, and what cannot be taken back, as text."""
    site, several = withdrawal.site, len(withdrawal.subjects)
    began = "taken out" if done else "will be taken out"
    lines = [f"{site.name}: {several} patient{'s' * (several > 1)}, {withdrawal.images} images {began} of {site.data}"]
    lines += _listed("removed" if done else "will be removed", withdrawal.removed or ["nothing: nothing is there"])
    lines += _listed("kept", withdrawal.kept)
    source = os.environ.get("FEDSYNTH_IMAGES") or "the folder or archive that ingest reads"
    beyond = [line.format(source=source) for line in BEYOND]
    if settings.simulation and (settings.root / ".dvc").is_dir():
        beyond.append("DVC's cache of this project, which holds earlier sets whole: `dvc gc --workspace`")
    lines += _listed("out of reach of this command", beyond)
    lines += _listed("not taken back", list(RELEASED))
    lines += _listed("models that were trained with them", withdrawal.models or ["none that this site knows of"])
    if len(withdrawal.digests) > withdrawals.TOLD:
        lines.append(f"{len(withdrawal.digests)} sets held them; the centre is told the newest {withdrawals.TOLD} by"
                     f" itself: send it {site.state / withdrawals.WITHDRAWN} as well")  # fmt: skip
    if withdrawal.running and not done:
        lines.append(
            "A job is running here, or died: stop the site's FLARE client first. One that runs meanwhile sends nothing"
            " more, but what it has in memory goes when it ends."
        )
    return "\n".join(lines)


def _listed(title: str, lines: list[str]) -> list[str]:
    return [f"{title}:", *(f"  - {line}" for line in lines)]


def _rows(site: Site) -> pd.DataFrame:
    """Return the set's manifest as text; empty where there is none."""
    if not (site.data / manifest.FILE).is_file():
        return pd.DataFrame({"subject": pd.Series([], dtype=str)})
    return pd.read_csv(site.data / manifest.FILE, dtype=str, keep_default_na=False)


def _theirs(rows: pd.DataFrame, asked: list[str]) -> pd.Series:
    return rows["subject"].map(names.normal).isin(asked)


def _digest(site: Site) -> str:
    return manifest.digest(manifest.read(site.data))


def _known(site: Site, asked: list[str], rows: pd.DataFrame, show: bool) -> None:
    there, before = set(rows["subject"].map(names.normal)) - {""}, withdrawals.forgotten(site.state)
    for subject in asked:
        if subject in there or subject in before or trained.knows(site.state, subject):
            continue
        near = get_close_matches(subject.lower(), sorted({s.lower() for s in there}), 5)
        if show:
            shown = ", ".join(sorted(s for s in there if s.lower() in near)) or "none"
            raise ForgetError(f"{site.name} has no subject {subject!r}; similar: {shown}; nobody was forgotten")
        raise ForgetError(
            f"{site.name} has no subject {subject!r}; {len(near)} of its {len(there)} are similar, and --list shows"
            " them; nobody was forgotten"
        )


def _models(site: Site, digests: list[str]) -> list[str]:
    """Return models that were trained with these sets; those of whose training only a state is here have no date."""
    found = trained.models_of(site.state, digests)
    noted = {line.split()[0] for line in found}
    states = {path.stem.rpartition("-")[0] for path in (site.state / "train").glob("*.pt")}
    return found + [f"{model} (a state of its training is here)" for model in sorted(states - noted - {""})]


def _kept(site: Site) -> Iterator[str]:
    goes = withdrawals.made(site.state)
    for path in sorted(site.state.iterdir()) if site.state.is_dir() else []:
        if path.name not in withdrawals.MADE and path not in goes:
            yield f"{path}: {KEPT.get(path.name.partition('.')[0], UNKNOWN)}"
