"""A record as it is stored: the row of its manifest and its array, made in whichever process has read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedsynth.data import images, manifest, people
from fedsynth.data.record import MANY
from fedsynth.params import Params
from fedsynth.sources import Record

Limits = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Prepared:
    """`dealt`: subject, label and the source's own split. Of an image that is kept, and not of one whose patient has
    withdrawn: `row` of the manifest, without what follows from its place in the set; `array` (C, *S) float32 of the
    study's channels, without derived ones, and `histograms` (I, BINS) of the image channels as read.
    """

    dealt: dict[str, str]
    row: dict[str, Any] | None = None
    array: np.ndarray | None = None
    histograms: np.ndarray | None = None


@dataclass(frozen=True)
class Preparing:
    """Prepares records of a site: `limits` of intensity of the whole site; `gone` says of a subject whether they have
    withdrawn.
    """

    params: Params
    limits: Limits
    gone: Callable[[str], bool]

    def __call__(self, record: Record) -> Prepared:
        dealt = {"subject": record.subject, "label": record.label, "split": record.split}
        if self.gone(record.subject):
            return Prepared(dealt)
        image = self.params.image
        # before it is brought onto one grid
        bars, ends = histograms(record, image.images)
        facts, array = self._fitted(record)
        row = {**facts, "values": between(ends)}
        return Prepared(dealt, row if image.derived else manifest.row(len(image.images), array, **row), array, bars)

    def _fitted(self, record: Record) -> tuple[dict[str, Any], np.ndarray]:
        image, problem, fitted = self.params.image, record.problem or _wrong_split(record), None
        array = np.zeros((len(image.sourced.channels), *image.size), np.float32)
        if not problem:
            try:
                fitted = images.fit(record, image.sourced, self.limits)
                array = fitted.array
            except manifest.SetError as error:
                problem = str(error)
        read = [record.channels[c] for c in image.images if c in record.channels]
        return {
            "subject": record.subject,
            "label": record.label,
            "sex": people.sex_of(record.sex),
            "age": people.band_of(record.age),
            "modality": "+".join(image.images),
            "split": record.split,
            "origin": "real",
            "spacing_mm": manifest.by(fitted.spacing_mm if fitted else None),
            "source_shape": manifest.by(read[0].shape) if read else "",
            "mask_shape": manifest.by(record.mask_shape),
            "outside": fitted.outside if fitted else 0.0,
            "scaled": between(fitted.limits) if fitted else "",
            "lacks": "+".join(c for c in image.sourced.channels if c not in record.channels) if fitted else "",
            "notes": "; ".join(dict.fromkeys(record.notes)),
            "warning": "; ".join(dict.fromkeys(record.warnings)),
            "file": record.file,
            "problem": problem,
        }, array


def derived(params: Params, found: Prepared, name: str) -> tuple[dict[str, Any], np.ndarray]:
    """Return row and array (all channels, *S) of what was prepared, with the derived channels of the image `name`.

    They are computed from the scaled channels, so that both have the same scale, and by one process: torch's threads
    are not in the others.
    """
    assert found.row is not None
    assert found.array is not None
    image, row, array = params.image, found.row, found.array
    if not image.derived:
        return row, array
    from fedsynth.operators import derive

    whole = np.zeros((len(image.channels), *image.size), np.float32)
    if not row["problem"]:
        try:
            whole = derive(image, array, f"{params.seed}/{name}")
        except manifest.SetError as error:
            row = row | {"problem": str(error)}
    return manifest.row(len(image.images), whole, **row), whole


def histograms(record: Record, channels: list[str]) -> tuple[np.ndarray, Limits]:
    """(C, BINS) counts of each channel's finite values as read, and the least and the largest between which they are
    counted; 0, and no ends, where a channel is not there. Above `MANY` values evenly spaced ones are counted.
    """
    found, ends = np.zeros((len(channels), manifest.BINS), np.uint32), {}
    for place, name in enumerate(channels):
        values = _finite(record, name)
        if values.size:
            ends[name] = values.min(), values.max()
            found[place] = np.histogram(values[:: -(-values.size // MANY)], manifest.BINS, ends[name])[0]
    return found, ends


def between(ends: Limits) -> str:
    """ "t1 0..812, t2 0..1024" """
    return ", ".join(f"{name} {low:.6g}..{high:.6g}" for name, (low, high) in ends.items())


def _finite(record: Record, name: str) -> np.ndarray:
    plane = record.channels.get(name, np.zeros(0))
    finite = np.isfinite(plane)
    return plane.ravel() if finite.all() else plane[finite]


def _wrong_split(record: Record) -> str:
    if record.split in ("", *manifest.SPLITS):
        return ""
    return f"{record.file} is in the split {record.split!r}; a source may name {', '.join(manifest.SPLITS)}, or none"
