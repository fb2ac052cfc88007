"""Extracts 2-D slices from volumes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field

from fedsynth.data import images
from fedsynth.data.manifest import SetError
from fedsynth.data.record import Record, Volume
from fedsynth.params import Image, Strict
from fedsynth.params.problems import argument


class Slices(Strict):
    """Every `every`-th slice across an `axis` of the volume (0 runs from the feet up, 1 from front to back, 2 from
    right to left), of those that show something: whose first channel lies above the volume's minimum in a share of at
    least `least` of the pixels.
    """

    axis: int = Field(0, ge=0, le=2)
    every: int = Field(1, ge=1)
    least: float = Field(0.1, ge=0, le=1)

    def of(self, volume: Record, image: Image) -> Iterator[Record]:
        """Slices of a volume as records of two dimensions, all of its subject. They share the volume's grid and its
        limits of intensity. A volume with a problem stays as it is.
        """
        if not volume.problem:
            try:
                images.together(volume, image)
                images.outside(volume, image)  # what is outside of the body may be within it on a slice
            except SetError as error:
                volume.problem = str(error)
        if volume.problem:
            yield volume
            return
        first = next(iter(volume.channels.values()))
        shown = np.moveaxis(first > np.nanmin(first), self.axis, 0).reshape(first.shape[self.axis], -1).mean(1)
        whole = Volume(lambda: {name: volume.channels[name] for name in image.images if name in volume.channels})
        places = np.flatnonzero(shown >= self.least)[:: self.every]
        if not places.size:
            volume.problem = f"{volume.file}: none of its {len(shown)} slices shows anything in {self.least:.0%} of it"
            yield volume
        for place in places:
            yield replace(
                volume,
                channels={name: np.take(plane, place, self.axis) for name, plane in volume.channels.items()},
                grids={name: grid.without(self.axis, place) for name, grid in volume.grids.items()},
                volume=whole,
                spacing_mm=self._without(volume.spacing_mm),
                mask_shape=self._without(volume.mask_shape),
                notes=list(volume.notes),
                warnings=list(volume.warnings),
                file=f"{volume.file} [{place}]",
            )

    def _without(self, numbers: tuple | None) -> tuple | None:
        return None if numbers is None else numbers[: self.axis] + numbers[self.axis + 1 :]


def parse(entry: dict[str, Any] | None) -> Slices | None:
    """A source's argument `slices`, checked. Raises ArgumentsError with every wrong key."""
    return None if entry is None else argument(Slices, entry, "slices")
