"""Which models were trained at a site, with which of its sets, and whose images these held."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from fedsynth.data import manifest as table
from fedsynth.hospital.pseudonyms import Pseudonyms

FOLDER, MODELS, SUBJECTS = "trained", "models", ".subjects"  # <state>/<site>/trained: models, <digest>.subjects


def remember(state: Path, model: str, manifest: pd.DataFrame) -> None:
    """Note that a training of `model` begins with this set, before it has seen an image. A second call adds nothing."""
    folder, digest = state / FOLDER, table.digest(manifest)
    if not (folder / f"{digest}{SUBJECTS}").is_file():
        known = Pseudonyms()
        known.add(s for s in manifest["subject"].unique() if s)
        known.write(folder / f"{digest}{SUBJECTS}")
    if (model, digest) not in [(m, d) for _, m, d in _lines(state)]:
        with (folder / MODELS).open("a", encoding="utf-8") as file:  # one short write: jobs run beside each other
            file.write(f"{datetime.now(UTC):%Y-%m-%d} {model} {digest}\n")
        (folder / MODELS).chmod(0o600)


def sets_with(state: Path, subjects: Collection[str]) -> set[str]:
    """Return the digests of sets that were trained with and held one of these patients."""
    found = set()
    for path in (state / FOLDER).glob(f"*{SUBJECTS}"):
        known = Pseudonyms.read(path)
        if any(subject in known for subject in subjects):
            found.add(path.name.removesuffix(SUBJECTS))
    return found


def knows(state: Path, subject: str) -> bool:
    return bool(sets_with(state, [subject]))


def models_of(state: Path, digests: Collection[str]) -> list[str]:
    """Return the models that were trained with one of these sets, each with the date and the set."""
    return [f"{model} ({day}, set {digest[:12]}…)" for day, model, digest in _lines(state) if digest in digests]


def drop(state: Path, subjects: Collection[str]) -> None:
    """Take patients out of the lists of sets, once the sets' digests are known to be withdrawn."""
    for digest in sorted(sets_with(state, subjects)):
        path = state / FOLDER / f"{digest}{SUBJECTS}"
        known = Pseudonyms.read(path)
        known.drop(subjects)
        known.write(path)


def _lines(state: Path) -> list[list[str]]:
    path = state / FOLDER / MODELS
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    return [line for line in lines if len(line) == 3]  # a crash may have cut the last one
