"""Seen: what was read of a folder, image by image."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from fedsynth.data.images import resample
from fedsynth.study.found.layout import MANIFEST, Layout


@dataclass(frozen=True, eq=False)
class Small:
    """A small mask: the places of what it marks in an array of `shape`."""

    file: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None
    marked: np.ndarray

    def lost(self, size: tuple[int, ...]) -> bool:
        """Whether nothing of it is left at another size, as ingest resamples."""
        whole = np.zeros(self.shape, np.float32)
        whole.ravel()[self.marked] = 1
        return not (resample(whole, size, self.spacing, "pad", order=0)[0] > 0).any()


@dataclass
class Seen:
    """What a folder holds.

    `images`: a row for each image that was read: file, site, subject, label, split, shape, spacing, mask ("", "empty",
    "marked"), problem. `listed`: site, subject and label of all that the source knows before reading. `values`: in how
    many of some label files each value is. `whole`: whether all images were read.
    """

    layout: Layout
    images: pd.DataFrame
    listed: pd.DataFrame
    values: Counter[int]
    small: list[Small]
    whole: bool

    @cached_property
    def good(self) -> pd.DataFrame:
        """The images that can be used."""
        return self.images[self.images["problem"] == ""]

    @property
    def known(self) -> pd.DataFrame:
        """A row for each image as far as it is known: all that were read, or all that are listed."""
        return self.good if self.whole or self.listed.empty else self.listed

    @property
    def problems(self) -> list[str]:
        """What is wrong with files, each named."""
        return [*self.layout.problems, *self.images.loc[self.images["problem"] != "", "problem"]]

    @property
    def table(self) -> pd.DataFrame | None:
        """The proposed manifest, without images that cannot be used; None where the source needs none."""
        table = self.layout.table
        if table is None or "image" not in table:
            return table
        bad = {part for file in self.images.loc[self.images["problem"] != "", "file"] for part in file.split(" + ")}
        return table[~table["image"].isin(bad)]

    @property
    def files(self) -> dict[str, str]:
        """What belongs beside params.yaml: {name: text}."""
        return {} if self.table is None else {MANIFEST: self.table.to_csv(index=False)}

    @property
    def median_shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in np.median(np.array(self.good["shape"].tolist()), axis=0))
