"""States of trainings at a site (optimisers, averages, local parts) that newer trainings of the same model replaced."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable
from pathlib import Path

# Folders in <state>/<site>. The final weights beside the states, *.global.safetensors, stay: by them a site knows a
# model that it has helped to train (fedsynth/stages/tied.py).
FOLDERS, ENDING = ("train", "reference"), ".pt"
OF_TRAINING = re.compile(r"(?P<model>.*?)-?[0-9a-f]{16}\.pt")  # "vae-594c507c88f0ed1a.pt", "832932e8ff03eb22.pt"


def replaced(site: Path, keep: int) -> list[Path]:
    """Return the states of each model's trainings but those of the newest `keep`. `site`: <state>/<site>."""
    return older_of_each(
        (((folder, named["model"]), path)
         for folder in FOLDERS
         for path in (site / folder).glob(f"*{ENDING}")
         if (named := OF_TRAINING.fullmatch(path.name))),
        keep,
    )  # fmt: skip


def older_of_each(kinds: Iterable[tuple[Hashable, Path]], keep: int) -> list[Path]:
    """Return all but the `keep` of each kind that were written last, of (kind, path)."""
    groups = defaultdict(list)
    for kind, path in kinds:
        groups[kind].append(path)
    return [old for paths in groups.values() for old in older(paths, keep)]


def older(paths: Iterable[Path], keep: int) -> list[Path]:
    """Return all but the `keep` that were written last."""
    return sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)[keep:]


def prune(site: Path, keep: int) -> None:
    """Remove what `replaced` returns."""
    for path in replaced(site, keep):
        path.unlink(missing_ok=True)
