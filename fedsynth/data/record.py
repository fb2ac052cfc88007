"""Record: one image as a source reads it at the hospital."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fedsynth.data.geometry import Grid

MANY = 2**22  # values of a volume, above which limits of intensity come from evenly spaced ones
RARE = 0.1  # percent of the values at either end, for which a sample would not do


class Volume:
    """The volume that slices are cut from, for limits of intensity that all its slices share.

    `read` gives its channels (*S); only the limits are kept.
    """

    def __init__(self, read: Callable[[], dict[str, np.ndarray]]):
        self.read = read
        self._limits: dict[tuple[str, tuple[float, float]], tuple[float, float]] = {}

    def limits(self, name: str, percentiles: tuple[float, float]) -> tuple[float, float]:
        """Two percentiles of the finite values of a channel."""
        if (name, percentiles) not in self._limits:
            for channel, plane in self.read().items():
                self._limits[channel, percentiles] = limits_of(plane, percentiles)
        return self._limits[name, percentiles]


def limits_of(values: np.ndarray, percentiles: tuple[float, float]) -> tuple[float, float]:
    """Two percentiles of the finite values; (0, 0) where there are none.

    Of more than `MANY` values every k-th is taken, so that at least half of `MANY` are left: the standard error of the
    percentile p is then sqrt(p (100 - p) / 2^21) at most, .005 for the percentile .5 and .035 for the median.
    Percentiles within `RARE` of 0 or 100 are of all values.
    """
    if values.size > MANY and percentiles[0] >= RARE and percentiles[1] <= 100 - RARE:
        values = values.ravel()[:: -(-values.size // MANY)]
    finite = np.isfinite(values)
    found = values if finite.all() else values[finite]
    low, high = np.percentile(found, percentiles) if found.size else (0.0, 0.0)
    return float(low), float(high)


@dataclass
class Record:
    """One image as read: a float array (*S as read) for each channel that it has.

    A mask channel that is absent is unknown, which an empty mask is not. NaN is what lies outside of the body.
    """

    channels: dict[str, np.ndarray]
    label: str
    subject: str
    spacing_mm: tuple[float, ...] | None = None
    file: str = ""  # relative name, for messages at the site
    problem: str = ""
    mask_shape: tuple[int, ...] | None = None  # as read, where there is a mask
    split: str = ""  # train, val or test where the set has splits of its own; else by the subject
    grids: dict[str, Grid] = field(default_factory=dict)  # of each channel whose file says where it lies
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)  # of each channel of a known range: 8 bit, CT
    volume: Volume | None = None  # of a slice
    exif: int = 1  # orientation of the image's file, which was undone on reading
    sex: str = ""  # as read, like age: ingest keeps a word of data/people.py and a band of years
    age: str = ""
    notes: list[str] = field(default_factory=list)  # what was changed on reading
    warnings: list[str] = field(default_factory=list)  # what a person should look at
