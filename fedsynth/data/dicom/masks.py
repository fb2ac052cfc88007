"""Masks of a series: segments and regions that are drawn on it, on the grid of its slice or volume."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fedsynth.data import geometry
from fedsynth.data.dicom import contours, segments, volumes
from fedsynth.data.dicom.drawings import Drawing
from fedsynth.data.dicom.files import dataset, reading
from fedsynth.data.dicom.images import grid_of
from fedsynth.data.dicom.series import Series
from fedsynth.data.manifest import SetError
from fedsynth.data.planes import Planes

Wanted = str | int | list[int]


@dataclass(frozen=True)
class Target:
    """What a mask is wanted for: a series as a volume, or the slice of that number."""

    series: Series
    slice: int | None = None


@dataclass(frozen=True)
class Mask:
    """`planes` (1, *S) of 0 and 1, of the file `name`; what a person should look at."""

    planes: Planes
    name: str
    warnings: list[str] = field(default_factory=list)


def chosen(names: dict[int, str], wanted: Wanted) -> list[int]:
    """The numbers of segments that are `wanted` by label (whatever its case) or number."""
    if isinstance(wanted, str):
        return [n for n, label in names.items() if label.strip().casefold() == wanted.strip().casefold()]
    return [n for n in names if n in ([wanted] if isinstance(wanted, int) else wanted)]


def drawn(path: Path, drawing: Drawing, wanted: Wanted, lone: bool, on: Target, name: str) -> Mask | None:
    """What a file marks on the target, all of it where no segment is so called and there is one mask `lone`; None where
    it has no such segment. Raises SetError with `name`.
    """
    with reading(name):
        file = dataset(path)
    names = (contours if drawing.contours else segments).names_of(file, name)
    numbers, warnings = chosen(names, wanted), []
    if not numbers and lone:
        numbers = list(names)
        if len(numbers) > 1:
            warnings.append(
                f"{name} has no segment of the mask's name; all {len(numbers)} of it are taken for the mask"
            )
    if not numbers:
        return None
    stack = None if on.slice is not None else volumes.stack(on.series.frames, name, skewed=True)
    slices = on.series.frames if stack is None else stack.frames
    of = range(len(slices)) if on.slice is None else [on.slice]
    found: list[np.ndarray] | None
    if drawing.contours:
        found, seen = contours.on_slices(file, numbers, slices, of, name)
        warnings += seen
    else:
        found = segments.on_slices(file, drawing, numbers, slices, of, name)
    if stack is None and found is None:
        raise SetError(
            f"{name} lies on other voxels than its series; read it as volumes, with image.grid, and slices:"
            " {every: 1} for slices"
        )
    if found is None:
        return Mask(segments.alone(file, drawing, numbers, name), name, warnings)
    if stack is None:
        frame = slices[of[0]]
        return Mask(Planes(found[0][None].astype(np.float32), grid_of(frame, frame.shape)), name, warnings)
    return Mask(Planes(stack.turned(np.stack(found)[None].astype(np.float32)), stack.turned_grid), name, warnings)


def joined(one: Mask | None, other: Mask | None, name: str) -> Mask | None:
    """What either of two masks marks. Raises SetError with `name` where they lie on different grids."""
    if one is None or other is None:
        return one or other
    if not geometry.same(one.planes.grid, other.planes.grid):
        raise SetError(f"{one.name} and {name} mark one channel of one series on different grids; keep one of them")
    planes = replace(one.planes, values=np.maximum(one.planes.values, other.planes.values))
    return Mask(planes, one.name, one.warnings + other.warnings)
