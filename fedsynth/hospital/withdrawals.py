"""What a site keeps of patients who have withdrawn: whom the next ingest leaves out, and what the centre is told."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fedsynth.data.manifest import SetError
from fedsynth.hospital.pseudonyms import Pseudonyms, write_private
from fedsynth.hospital.secret import keyed

FORGOTTEN, WITHDRAWN = "forgotten", "withdrawn"  # files in <state>/<site>
RUNNING = "running"
INGESTED = "ingested"
RUN = "FEDSYNTH_RUN"  # environment variable of every process of a simulated job: which one it is
# In <state>/<site>: what was made from images, with what it is
MADE = {
    "train": "states of trainings (optimisers, averages, local parts of models)",
    "reference": "networks that were trained on the site's own images",
    "audit": "pictures of real images beside synthetic ones, and their list",
    "look": "pages with images",
    "validation": "the validation report, with rows and files",
    "answers": "answers that were kept, to be given again",
    INGESTED: "which files the set was read from: the next ingest reads all of them",
    RUNNING: "marks of jobs that were running",
}
TOLD = 64  # digests that one answer may hold (hospital/outgoing/validation.py)


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Wait until no other command changes the site's set, and keep others waiting: two would undo each other's work."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another command that changes the set of {state.name}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def forgotten(state: Path) -> Pseudonyms:
    """Return whom the site leaves out. `state`: the site's own folder, <state>/<site>."""
    return Pseudonyms.read(state / FORGOTTEN)


def withdrawn(state: Path) -> list[str]:
    """Return the digests of the site's earlier sets that held a patient who has withdrawn, the oldest first."""
    path = state / WITHDRAWN
    return path.read_text(encoding="ascii").split() if path.is_file() else []


def told(state: Path, simulated: bool = False) -> list[str]:
    """Return those of them that the centre is told, keyed as it knows them: the newest that one answer may hold."""
    return [keyed(state, digest, simulated) for digest in withdrawn(state)[-TOLD:]]


def record(state: Path, subjects: Collection[str], digests: Iterable[str]) -> None:
    """Add patients whom the next ingest leaves out, and digests of sets that held them.

    The digests come first: without them the centre would never learn that a model is stale.
    """
    had = withdrawn(state)
    if new := sorted(set(digests) - set(had)):
        write_private(state / WITHDRAWN, "".join(f"{digest}\n" for digest in [*had, *new]))
    known = forgotten(state)
    if any(subject not in known for subject in subjects):
        known.add(subjects)
        known.write(state / FORGOTTEN)


class Withdrawn(SetError):
    """A patient has withdrawn while a job ran: what it has in memory must not be used any more."""


def unchanged(state: Path, began: str) -> None:
    """Raise Withdrawn where a patient has withdrawn since `began`, the stamp when the job read the images.

    What is there by then was written by jobs that had read them: it is removed, and others make theirs anew.
    """
    if stamp(state) != began:
        sweep(state)
        raise Withdrawn("a patient has withdrawn since this job began; run it again, without their images")


def stamp(state: Path) -> str:
    """Return what changes with each withdrawal, "" before the first: a job that runs meanwhile looks at it."""
    path = state / FORGOTTEN
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def made(state: Path) -> list[Path]:
    """Return what is in a site's state that was made from images."""
    cut = state.glob(f"{INGESTED}.*.part")  # of an ingest that was killed as it wrote the list
    paths = [*(state / name for name in MADE), *sorted(cut)]
    return [
        p for p in paths if p.is_symlink() or p.is_file() or (p.is_dir() and (p.name != RUNNING or any(p.iterdir())))
    ]


def sweep(state: Path) -> None:
    """Remove all that was made from images; of a link the link. A job that runs needs the folder of its mark."""
    for path in made(state):
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.name == RUNNING:
            for mark in path.iterdir():
                mark.unlink(missing_ok=True)
        else:
            shutil.rmtree(path)
