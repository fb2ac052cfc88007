"""Extracts 2-D slices from volumes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from fedsynth.data.record import Record
from fedsynth.params import ParamsError, Strict


class Slices(Strict):
    """Across the volume's `axis` (in NIfTI as images.read turns it 0 is from the feet up), every `every`-th slice of
    those that show something: whose first channel lies above the volume's minimum in a share `least` of the pixels.
    """

    axis: int = Field(0, ge=0, le=2)
    every: int = Field(1, ge=1)
    least: float = Field(0.1, ge=0, le=1)

    def of(self, volume: Record) -> Iterator[Record]:
        """Records of two dimensions, all of the volume's subject: none of them parts from another. One with a problem
        stays as it is.
        """
        if volume.problem:
            yield volume
            return
        first = next(iter(volume.channels.values()))
        shown = np.moveaxis(first > first.min(), self.axis, 0).reshape(first.shape[self.axis], -1).mean(1)
        for place in np.flatnonzero(shown >= self.least)[:: self.every]:
            yield replace(
                volume,
                channels={name: np.take(plane, place, self.axis) for name, plane in volume.channels.items()},
                spacing_mm=self._without(volume.spacing_mm),
                mask_shape=self._without(volume.mask_shape),
                file=f"{volume.file} [{place}]",
            )

    def _without(self, numbers: tuple | None) -> tuple | None:
        return None if numbers is None else numbers[: self.axis] + numbers[self.axis + 1 :]


def parse(entry: dict[str, Any] | None) -> Slices | None:
    """A source's argument `slices`, checked. Raises ParamsError naming the key and its value."""
    try:
        return None if entry is None else Slices.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        raise ParamsError(
            f"source.args.slices {'.'.join(map(str, first['loc']))}: {first['msg']} ({first['input']!r})"
        ) from error
