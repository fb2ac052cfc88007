"""Slices and volumes of a series as planes with their grid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fedsynth.data.dicom import pixels, volumes
from fedsynth.data.dicom.files import dataset, reading
from fedsynth.data.dicom.frames import Frame
from fedsynth.data.dicom.series import Series
from fedsynth.data.geometry import Grid
from fedsynth.data.manifest import SetError
from fedsynth.data.planes import Planes

FLAT = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])  # columns: a row, a column, the origin


def slice_of(folder: Path, series: Series, number: int, name: str) -> Planes:
    """A slice of a series as planes (C, H, W). Raises SetError with `name`."""
    frame = series.frames[number]
    with reading(name):
        file = dataset(folder / frame.file)
        values = pixels.values(file, frame.number, series.mirror, name)
        return Planes(values, grid_of(frame, values.shape[1:]), pixels.names_of(file), pixels.range_of(file))


def volume(folder: Path, series: Series, name: str, skewed: bool) -> Planes:
    """A series as planes (C, D, H, W) in our direction (fedsynth.data.dicom.volumes.Stack). Raises SetError with `name`
    and the reason where its slices are no volume; `skewed`: those of a tilted gantry are one.
    """
    with reading(name):
        stack = volumes.stack(series.frames, name, skewed)
        files = [dataset(folder / f.file) for f in stack.frames[:1]]
        values = _one_kind(_values(folder, series, stack.frames, name), name)
        array = stack.turned(np.stack(values, axis=1))
        return Planes(array, stack.turned_grid, pixels.names_of(files[0]), pixels.range_of(files[0]))


def all_values(folder: Path, series: Series, channels: int, name: str) -> list[np.ndarray]:
    """All values of a series' slices, (n,) for each of its channels, for limits of intensity."""
    parts = _one_kind(_values(folder, series, series.frames, name), name, ())
    found = [np.concatenate([part[c].ravel() for part in parts]) for c in range(len(parts[0]))]
    return found if len(found) == channels else [np.concatenate(found)] * channels


def grid_of(frame: Frame, shape: tuple[int, ...]) -> Grid:
    """The grid of a slice; at the origin where it says its spacing alone."""
    if frame.spacing is None:
        return Grid(shape)
    steps = np.array([*frame.spacing, 1.0])
    if frame.directions is None or frame.position is None:
        return Grid(shape, FLAT * steps)
    return Grid(shape, np.column_stack([frame.directions[1], frame.directions[0], frame.position]) * steps)


def _values(folder: Path, series: Series, frames: list[Frame], name: str) -> Iterator[np.ndarray]:
    for frame in frames:
        yield pixels.values(dataset(folder / frame.file), frame.number, series.mirror, name)


def _one_kind(found: Iterator[np.ndarray], name: str, axes: tuple[int, ...] = (1, 2)) -> list[np.ndarray]:
    """Slices that have the same number of planes, and the same size along `axes`."""
    parts = list(found)
    if len({len(p) for p in parts}) > 1:
        raise SetError(f"{name} has gray and coloured slices; put each kind into a series of its own")
    if axes and len({p.shape for p in parts}) > 1:
        raise SetError(f"{name} has slices of several sizes; read it with an image.size of two axes")
    return parts
