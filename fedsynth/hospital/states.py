"""States of trainings at a site (optimisers, averages, local parts) that newer trainings of the same model replaced."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

# Folders in <state>/<site>. The final weights beside the states, *.global.safetensors, stay: by them a site knows a
# model that it has helped to train (fedsynth/stages/tied.py).
FOLDERS, ENDING = ("train", "reference"), ".pt"
OF_TRAINING = re.compile(r"(?P<model>.*?)-?[0-9a-f]{16}\.pt")  # "vae-594c507c88f0ed1a.pt", "832932e8ff03eb22.pt"


def replaced(site: Path, keep: int) -> list[Path]:
    """Return the states of each model's trainings but those of the newest `keep`. `site`: <state>/<site>."""
    found = []
    for folder in FOLDERS:
        models = defaultdict(list)
        for path in (site / folder).glob(f"*{ENDING}"):
            if named := OF_TRAINING.fullmatch(path.name):
                models[named["model"]].append(path)
        found += [old for paths in models.values() for old in older(paths, keep)]
    return found


def older(paths: Iterable[Path], keep: int) -> list[Path]:
    """Return all but the `keep` that were written last."""
    return sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)[keep:]


def prune(site: Path, keep: int) -> None:
    """Remove what `replaced` returns."""
    for path in replaced(site, keep):
        path.unlink(missing_ok=True)
