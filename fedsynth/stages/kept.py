"""What the next ingest need not read again: the images of a set, by the stamp of the unit of a source that they are of.

The list lies in the site's state, holds hashes and numbers alone, and goes when a patient withdraws.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fedsynth
from fedsynth.data import manifest
from fedsynth.data.stored import stamp
from fedsynth.hospital.pseudonyms import write_private
from fedsynth.hospital.withdrawals import INGESTED
from fedsynth.params import Params
from fedsynth.stages import code

FILES = (manifest.ARRAY, manifest.HISTOGRAMS, manifest.FILE)


@dataclass(frozen=True)
class Unit:
    """A unit of a source: its stamp, "" where it must be read again; how many images of the set are its; the split that
    the source names for them.
    """

    stamp: str
    images: int
    split: str = ""


@dataclass(frozen=True)
class Before:
    """The set that is there: of each stamp the first of its images and the unit; rows and histograms of all images."""

    units: dict[str, tuple[int, Unit]]
    rows: list[dict[str, Any]]
    histograms: np.ndarray

    def of(self, stamps: Iterable[str]) -> list[tuple[int, Unit] | None]:
        return [self.units.get(stamp) for stamp in stamps]

    def all_first(self, units: list[tuple[int, Unit] | None]) -> bool:
        """Whether all images of this set are the first ones of the new one, in their order."""
        end = place = 0
        while place < len(units) and (found := units[place]) is not None and found[0] == end:
            end, place = end + found[1].images, place + 1
        return 0 < end == len(self.rows) and not any(units[place:])


NOTHING = Before({}, [], np.zeros(0, np.uint32))


def settings(params: Params, key: str, limits: dict[str, tuple[float, float]]) -> str:
    """Return what changes with whatever changes images though the source's files do not: keys of params.yaml, limits of
    intensity of the whole site, and code.
    """
    classes = [params.source.class_path, *(of.operator.class_path for of in params.image.derived.values())]
    said = {
        "image": params.image.model_dump(mode="json"),
        "source": params.source.model_dump(mode="json"),
        "seed": params.seed,
        "key": key,
        "limits": {name: [float(end).hex() for end in ends] for name, ends in limits.items()},
        "code": [fedsynth.__version__, np.__version__, code.digests(["fedsynth.stages.ingest"], classes)],
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def read(state: Path, folder: Path, settings: str, gone: Callable[[str], bool]) -> Before:
    """Return the set that is there, nothing of it where it was made with other settings or changed since. What is of
    subjects who are `gone` does not stay.
    """
    path = state / INGESTED
    if not path.is_file() or not all((folder / name).is_file() for name in FILES):
        return NOTHING
    said = json.loads(path.read_text(encoding="utf-8"))
    if said["settings"] != settings or said["files"] != _files(folder):
        return NOTHING
    rows = manifest.read(folder).to_dict("records")
    found, first = {}, 0
    for unit in (Unit(*of) for of in said["units"]):
        if unit.stamp and not gone(rows[first]["subject"]):
            found[unit.stamp] = first, unit
        first += unit.images
    return Before(found, rows, np.load(folder / manifest.HISTOGRAMS))


def write(state: Path, folder: Path, settings: str, units: list[Unit]) -> None:
    """Note of which units the set is; of sources whose units have no stamps nothing is noted."""
    if not any(unit.stamp for unit in units):
        (state / INGESTED).unlink(missing_ok=True)
        return
    listed = [[unit.stamp, unit.images, unit.split] for unit in units]
    said = {"settings": settings, "files": _files(folder), "units": listed}
    write_private(state / INGESTED, json.dumps(said) + "\n")


def _files(folder: Path) -> dict[str, list[int]]:
    return {name: list(stamp(folder / name)) for name in FILES}
