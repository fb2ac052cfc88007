"""Where voxels lie in the patient: the grid of a plane, comparison of two grids, and resampling from one onto another.

Directions are DICOM's (LPS): x to the patient's left, y to the back, z to the head, in millimetres.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from fedsynth.data.manifest import SetError

TOLERANCE = 0.1  # of a voxel's shortest edge, by which corners of two grids may differ
Spacing = tuple[float, ...] | None


@dataclass(frozen=True, eq=False)
class Grid:
    """Shape (*S) of a plane and `affine` (3, d + 1): a step along each array axis and the place of the first voxel's
    centre, in mm (LPS). None where the file does not say where it lies.
    """

    shape: tuple[int, ...]
    affine: np.ndarray | None = None

    @property
    def spacing_mm(self) -> Spacing:
        """Length of a step along each axis; None where unknown."""
        if self.affine is None:
            return None
        return tuple(float(step) for step in np.linalg.norm(self.affine[:, :-1], axis=0))

    @property
    def corners(self) -> np.ndarray:
        """(2^d, 3): the centres of the outermost voxels in mm."""
        assert self.affine is not None
        places = np.array(list(product(*[(0, n - 1) for n in self.shape])))
        return places @ self.affine[:, :-1].T + self.affine[:, -1]

    def without(self, axis: int, place: int) -> Grid:
        """The grid of the slice at `place` across an axis."""
        shape = self.shape[:axis] + self.shape[axis + 1 :]
        if self.affine is None:
            return Grid(shape)
        origin = self.affine[:, -1] + place * self.affine[:, axis]
        return Grid(shape, np.column_stack([np.delete(self.affine[:, :-1], axis, axis=1), origin]))

    def __str__(self) -> str:
        """ "40x50x60 voxels of 1x1x2 mm from (-10, 20, 30), axes z y x"."""
        text = "x".join(map(str, self.shape)) + " voxels"
        if self.affine is None:
            return text + " at an unknown place"
        spacing, origin = self.spacing_mm or (), ", ".join(f"{v:.4g}" for v in self.affine[:, -1])
        return f"{text} of {'x'.join(f'{s:.4g}' for s in spacing)} mm from ({origin}), axes {self._directions}"

    @property
    def _directions(self) -> str:
        """The nearest patient's direction of each axis: "S" to the head, "P" to the back, "L" to the left, "I", "A",
        "R" the other way; with the angle to it where that is above one degree.
        """
        assert self.affine is not None
        found = []
        for step in self.affine[:, :-1].T:
            main = int(np.abs(step).argmax())
            angle = np.degrees(np.arccos(min(1.0, abs(step[main]) / max(np.linalg.norm(step), 1e-12))))
            found.append(("LPS" if step[main] > 0 else "RAI")[main] + (f"({angle:.0f}°)" if angle > 1 else ""))
        return " ".join(found)


def same(a: Grid, b: Grid) -> bool:
    """Whether two grids are one: equal shapes, and corners within `TOLERANCE` of a voxel where both have a place."""
    if a.shape != b.shape:
        return False
    if a.affine is None or b.affine is None:
        return True
    edge = min(a.spacing_mm or (1.0,))
    return bool(np.abs(a.corners - b.corners).max() <= TOLERANCE * edge)


def is_identity(grid: Grid) -> bool:
    """Whether a NIfTI file's affine was the identity, as writers that know no geometry leave it."""
    if grid.affine is None:
        return False
    steps = np.abs(grid.affine[:, :-1])
    # reoriented on reading: steps of 1 mm along the axes
    return bool(np.isclose(steps.max(0), 1).all() and np.isclose(steps.sum(0), 1).all() and _plain_origin(grid))


def _plain_origin(grid: Grid) -> bool:
    """Whether the first voxel of the array as stored lay at the origin: a corner of the reoriented one does."""
    return bool((np.abs(grid.corners).max(1) < 1e-6).any())


def with_spacing(grid: Grid, spacing_mm: tuple[float, ...]) -> Grid:
    """The grid over the same part of the patient with voxels of another size. Raises SetError without a known place."""
    if grid.affine is None:
        raise SetError("a file without spacing cannot be resampled by image.grid; save it as NIfTI or DICOM")
    if _is_skewed(grid.affine[:, :-1]):
        return _upright_over(grid, spacing_mm)
    old = np.array(grid.spacing_mm)
    scale = np.array(spacing_mm) / old
    shape = tuple(int(n) for n in np.maximum(1, np.round(np.array(grid.shape) / scale)))
    steps = grid.affine[:, :-1] * scale
    # the middle stays where it is
    middle = grid.affine[:, :-1] @ ((np.array(grid.shape) - 1) / 2) + grid.affine[:, -1]
    return Grid(shape, np.column_stack([steps, middle - steps @ ((np.array(shape) - 1) / 2)]))


def _is_skewed(steps: np.ndarray) -> bool:
    """Whether axes (3, d) are not at right angles, as a tilted gantry leaves them."""
    unit = steps / np.linalg.norm(steps, axis=0)
    return bool(np.abs(unit.T @ unit - np.eye(unit.shape[1])).max() > 1e-3)


def _upright_over(grid: Grid, spacing_mm: tuple[float, ...]) -> Grid:
    """A grid at right angles over all of a skewed one; the two axes that are nearest to a right angle stay."""
    assert grid.affine is not None
    unit = grid.affine[:, :-1] / np.linalg.norm(grid.affine[:, :-1], axis=0)
    angles = np.abs(unit.T @ unit)
    odd = int(angles.sum(0).argmax())  # the axis that is askew against the others
    kept = [axis for axis in range(unit.shape[1]) if axis != odd]
    basis, _ = np.linalg.qr(unit[:, [*kept, odd]])
    basis *= np.sign((basis * unit[:, [*kept, odd]]).sum(0))
    axes = basis[:, np.argsort([*kept, odd])]
    spans = grid.corners @ axes
    low, high = spans.min(0), spans.max(0)
    shape = tuple(int(n) for n in np.round((high - low) / np.array(spacing_mm)) + 1)
    return Grid(shape, np.column_stack([axes * np.array(spacing_mm), axes @ low + _off_axes(grid, axes)]))


def _off_axes(grid: Grid, axes: np.ndarray) -> np.ndarray:
    """What of the place of a grid lies across its axes: of a slice, where its plane is."""
    assert grid.affine is not None
    origin = grid.affine[:, -1]
    return origin - axes @ (axes.T @ origin)


def without_nan(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An array to filter, with its least value in the place of what is not finite, or one NaN would blacken its whole
    neighbourhood; and where it is finite.
    """
    finite = np.isfinite(array)
    if finite.all():
        return array, finite
    return np.where(finite, array, array[finite].min() if finite.any() else 0), finite


def onto(array: np.ndarray, old: Grid, new: Grid, order: int) -> np.ndarray:
    """An array (*S) on the grid `old`, resampled onto `new`; NaN (or 0 with `order` 0) where `old` has nothing.

    `order` 1 is linear, after a Gaussian against aliasing where the new voxels are larger; 0 is nearest, for masks.
    By scipy, as MONAI's SpatialResample does for integer modes.
    """
    from scipy import ndimage

    if old.affine is None or new.affine is None:
        raise SetError(
            f"files that do not say where they lie cannot be resampled by image.grid ({old} and {new}); save them in"
            " one size, or as NIfTI or DICOM"
        )
    matrix, *_ = np.linalg.lstsq(old.affine[:, :-1], new.affine[:, :-1], rcond=None)
    start, *_ = np.linalg.lstsq(old.affine[:, :-1], new.affine[:, -1] - old.affine[:, -1], rcond=None)
    # a slice that lies in another plane has no place on the new grid
    off = old.affine[:, :-1] @ start + old.affine[:, -1] - new.affine[:, -1]
    if np.linalg.norm(off) > TOLERANCE * min(old.spacing_mm or (1.0,)):
        raise SetError(f"the slices lie in different planes: {old} and {new}")

    def moved(array: np.ndarray, order: int, mode: str) -> np.ndarray:
        return ndimage.affine_transform(array, matrix, start, new.shape, np.float32, order=order, mode=mode)

    if not order:
        return moved(array, 0, "grid-constant")
    filled, finite = without_nan(array)
    step = np.linalg.norm(matrix, axis=1)  # old voxels for each new one
    smooth = ndimage.gaussian_filter(filled.astype(np.float32), np.maximum(0, (step - 1) / 2), mode="nearest")
    # the outer half of the outermost voxels is theirs, too
    return np.where(moved(finite.astype(np.uint8), 0, "grid-constant") > 0, moved(smooth, 1, "nearest"), np.nan)
