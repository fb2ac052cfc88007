"""Volumes: a series' slices as one array, where they make one; each reason why they do not in its own words.

Tolerances are ours: real scanners write positions with two decimals, and directions that differ in the seventh.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from fedsynth.data.dicom.frames import APART, Frame
from fedsynth.data.geometry import Grid
from fedsynth.data.manifest import SetError

TURN = 0.1  # degrees by which the slices of a volume may be turned against each other
PLACE = 0.1  # of the distance of slices, by which one may lie off its regular place
SHIFT = 1.0  # pixel, by which the last slice may be shifted against the first along its rows or columns
SAME = 1e-3  # mm between two slices that are in one place
WHOLE = "read it with an image.size of two axes"


@dataclass(frozen=True)
class Stack:
    """Frames of a volume in order; `grid` has the axes (slice, row, column), `turn` and `flip` bring an array to
    (feet to head, front to back, right to left).
    """

    frames: list[Frame]
    grid: Grid
    turn: tuple[int, int, int]
    flip: tuple[int, ...]

    def turned(self, array: np.ndarray) -> np.ndarray:
        """An array (..., slice, row, column) in our direction."""
        lead = array.ndim - 3
        turned = array.transpose(*range(lead), *(lead + axis for axis in self.turn))
        return np.ascontiguousarray(np.flip(turned, tuple(lead + axis for axis in self.flip)))

    @property
    def turned_grid(self) -> Grid:
        """The grid of a turned array."""
        assert self.grid.affine is not None
        steps, origin = self.grid.affine[:, list(self.turn)].copy(), self.grid.affine[:, 3].copy()
        shape = tuple(self.grid.shape[axis] for axis in self.turn)
        for axis in self.flip:
            origin = origin + (shape[axis] - 1) * steps[:, axis]
            steps[:, axis] *= -1
        return Grid(shape, np.column_stack([steps, origin]))


def stack(frames: list[Frame], name: str, skewed: bool = False) -> Stack:
    """The volume of a series' frames. Raises SetError with `name` where they are none; slices that are shifted against
    each other, as a tilted gantry leaves them, only where they are not wanted `skewed`.
    """
    first = frames[0]
    _uniform(frames, name)
    assert first.directions is not None
    assert first.normal is not None
    assert first.spacing is not None
    normal = first.normal
    frames = sorted(frames, key=lambda f: float(normal @ f.position))
    _one_in_each_place(frames, name)
    step, origin = _steps(frames, name)
    if not skewed:
        _straight(step, frames, name)
    rows, columns = first.spacing
    affine = np.column_stack([step, first.directions[1] * rows, first.directions[0] * columns, origin])
    grid = Grid((len(frames), *first.shape), affine)
    return Stack(frames, grid, *_our_direction(affine[:, :3]))


def step_of(frames: list[Frame]) -> float | None:
    """The distance of a series' slices in mm; None where it is unknown."""
    places = np.unique([round(f.place, 3) for f in frames if f.place is not None])
    return float(np.median(np.diff(places))) if len(places) > 1 else frames[0].thickness


def _uniform(frames: list[Frame], name: str) -> None:
    """Raises SetError where frames do not say where they lie, or differ in size, spacing or direction."""
    first = frames[0]
    if any(f.position is None or f.directions is None for f in frames):
        n = sum(f.position is None or f.directions is None for f in frames)
        raise SetError(f"{name} does not say of {n} of its {len(frames)} slices where they lie; {WHOLE}")
    if any(f.spacing is None for f in frames):
        raise SetError(f"{name} does not say how large its pixels are (Pixel Spacing); export it with it, or {WHOLE}")
    sizes = sorted({f.shape for f in frames})
    if len(sizes) > 1:
        raise SetError(f"{name} has slices of {' and '.join(f'{a}x{b}' for a, b in sizes)} pixels; {WHOLE}")
    spacings = np.array([f.spacing for f in frames])
    if np.ptp(spacings, axis=0).max() > 1e-3 * spacings.max():
        raise SetError(f"{name} has slices with pixels of several sizes; {WHOLE}")
    turns = np.array([f.directions for f in frames])
    chord = np.linalg.norm(turns - first.directions, axis=2).max()
    angle = np.degrees(2 * np.arcsin(min(1.0, chord / 2)))
    if angle > TURN:
        raise SetError(f"{name} has slices in several directions, up to {angle:.3g}° apart; {WHOLE}")


def _one_in_each_place(frames: list[Frame], name: str) -> None:
    places = np.array([float(frames[0].normal @ f.position) for f in frames])  # type: ignore[operator]
    if len(frames) == 1 or (np.diff(places) > SAME).all():
        return
    n = len(frames) / len(set(np.round(places / SAME)))
    # what is the same in one place and not over all is not what tells them apart
    differ = [kind for place, kind in enumerate(APART) if len({f.apart[place] for f in _crowded(frames, places)}) > 1]
    why = f" that differ in {', '.join(differ)}" if differ else ""
    raise SetError(f"{name} has {n:.3g} slices in each place{why}; put each kind into a series of its own, or {WHOLE}")


def _crowded(frames: list[Frame], places: np.ndarray) -> list[Frame]:
    """The frames of the first place that has several."""
    at = places[:-1][np.diff(places) <= SAME][0]
    return [f for f, place in zip(frames, places, strict=True) if abs(place - at) <= SAME]


def _steps(frames: list[Frame], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The step from slice to slice and the place of the first, by a straight line through all (least squares)."""
    where = np.array([f.position for f in frames])
    normal = frames[0].normal
    assert normal is not None
    if len(frames) == 1:
        if frames[0].thickness is None:
            raise SetError(f"{name} is one slice of unknown thickness; {WHOLE}")
        return normal * frames[0].thickness, where[0]
    number = np.arange(len(frames))
    step, origin = np.polyfit(number, where, 1)
    off = where - (origin + number[:, None] * step)
    distance = abs(float(normal @ step))
    along = np.abs(off @ normal)
    if along.max() > PLACE * distance:
        gaps = np.diff(where @ normal)
        raise SetError(
            f"{name} has slices {gaps.min():.3g} to {gaps.max():.3g} mm apart, one up to {along.max():.2g} mm off its"
            f" regular place: one may be missing; export the series again, or {WHOLE}"
        )
    assert frames[0].spacing is not None
    if np.linalg.norm(off - np.outer(off @ normal, normal), axis=1).max() > SHIFT * min(frames[0].spacing):
        raise SetError(f"{name} has slices that are shifted against each other irregularly; {WHOLE}")
    return np.round(step, 9), np.round(origin, 9)  # what is left of the fit is noise


def _straight(step: np.ndarray, frames: list[Frame], name: str) -> None:
    normal, spacing = frames[0].normal, frames[0].spacing
    assert normal is not None
    assert spacing is not None
    shift = np.linalg.norm(step - (normal @ step) * normal) * (len(frames) - 1)
    if shift > SHIFT * min(spacing):
        tilt = np.degrees(np.arccos(min(1.0, abs(float(normal @ step)) / float(np.linalg.norm(step)))))
        raise SetError(
            f"{name} has slices that are shifted against each other by {shift:.3g} mm in all, as a gantry tilted by"
            f" {tilt:.3g}° leaves them; say image.grid: {{spacing_mm: [z, y, x]}} to resample it, or {WHOLE}"
        )


def _our_direction(steps: np.ndarray) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Which axis of an array runs nearest to the head, the back and the left (LPS: z, y, x), and which of them run the
    other way.
    """
    unit = steps / np.linalg.norm(steps, axis=0)
    turn = max(permutations(range(3)), key=lambda axes: sum(abs(unit[2 - n, axis]) for n, axis in enumerate(axes)))
    return (turn[0], turn[1], turn[2]), tuple(n for n, axis in enumerate(turn) if unit[2 - n, axis] < 0)
