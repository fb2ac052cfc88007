"""Brings a record to `image.size` and its intensities to [-1, 1], in 2-D and 3-D."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedsynth.data import geometry
from fedsynth.data.geometry import Spacing
from fedsynth.data.manifest import SetError
from fedsynth.data.record import Record, limits_of
from fedsynth.params import Image, Scale

PERCENTILES = (0.5, 99.5)  # by default
UNIFORM = 0.05  # of [-1, 1]'s width, within which half of the border must lie to be the background
UNKNOWN = 0.0  # stored throughout a mask that is not known
Limits = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Fitted:
    """`array` (C, *S) float32 as stored; `spacing_mm` of its voxels; `limits` of intensity that became -1 and 1, by
    channel; `outside`: share of the image's values that were NaN outside of the body.
    """

    array: np.ndarray
    spacing_mm: Spacing
    limits: dict[str, tuple[float, float]]
    outside: float


def fit(record: Record, image: Image, site: Limits | None = None) -> Fitted:
    """The record in the order, the size and the range of `image`; `site` are limits of intensity of the whole site, for
    channels whose scale asks for them.

    Image channels are in [-1, 1] (`image.scale`); what is padded, and NaN outside of the body, has the value of the
    background. Mask channels are -1 or 1, or 0 throughout where the mask is unknown. A channel of `image.may_lack` that
    the record has not is -1 throughout.

    Raises SetError naming the file where a channel is missing, of another shape or grid, or not finite in the body.
    """
    together(record, image)
    shape = next(iter(record.channels.values())).shape
    limits = limits_for(record, image, site or {})
    arrays, spacing = [], None
    for name, kind in image.channels.items():
        if name not in record.channels:
            arrays.append(np.full(image.size, UNKNOWN if kind == "mask" else -1.0))
            continue
        plane = record.channels[name]
        if plane.shape != shape or plane.ndim != len(image.size):
            raise SetError(
                f"{record.file}: {name!r} has the shape {plane.shape}, image.size {list(image.size)} and the first"
                f" channel {shape}"
            )
        fitted, spacing = resample(plane, image.size, record.spacing_mm, image.fit, order=int(kind == "image"))
        arrays.append(scaled(fitted, limits[name]) if kind == "image" else np.where(fitted > 0, 1, -1))
    return Fitted(np.stack(arrays).astype(np.float32), spacing, limits, outside(record, image))


def together(record: Record, image: Image) -> None:
    """Bring the record's channels onto one grid (`image.grid`) and settle what is missing, in place: a mask that is not
    there is empty where the label or `image.unmarked` says so, and unknown elsewhere. Raises SetError.
    """
    for name in [c for c in image.images if c not in record.channels and c not in image.may_lack]:
        there = ", ".join(record.channels) or "none"
        raise SetError(f"{record.file} has no channel {name!r} (it has: {there})")
    if not any(name in record.channels for name in image.images):
        raise SetError(f"{record.file} has none of the image channels {', '.join(image.images)}")
    _on_one_grid(record, image)
    for name in [c for c in image.masks if c not in record.channels]:
        if record.label in image.empty_labels or image.unmarked == "healthy":
            record.channels[name] = np.zeros(next(iter(record.channels.values())).shape, np.float32)


def _on_one_grid(record: Record, image: Image) -> None:
    names = [name for name in image.channels if name in record.channels]
    grids = {name: record.grids.get(name) or geometry.Grid(record.channels[name].shape) for name in names}
    onto = (image.grid.onto if image.grid else None) or ""
    first = onto if onto in grids else names[0]
    for name in [n for n in names if n in image.masks]:
        _oriented(record, name, grids[name], grids[names[0]])
    target = grids[first]
    if spacing := _asked(record, image, len(target.shape)):
        target = _named(record, geometry.with_spacing, target, spacing)
    odd = [name for name in names if not geometry.same(target, grids[name])]
    if odd and image.grid is None:
        name = odd[0]
        placed = grids[name].affine is not None and grids[first].affine is not None
        raise SetError(
            f"{record.file}: {name!r} lies on another grid than {first!r}. {name}: {grids[name]}; {first}:"
            f" {grids[first]}. Export both on one grid" + f", or say image.grid: {{onto: {first}}} to resample" * placed
        )
    for name in odd:
        order = int(name in image.images)
        record.channels[name] = _named(record, geometry.onto, record.channels[name], grids[name], target, order)
        record.grids[name] = target
        record.notes.append(f"{name} resampled from {grids[name]}")
    record.spacing_mm = target.spacing_mm or record.spacing_mm


def _named(record: Record, call: Callable[..., Any], *args: Any) -> Any:
    """What a function returns; its SetError with the record's file."""
    try:
        return call(*args)
    except SetError as error:
        raise SetError(f"{record.file}: {error}") from error


def _asked(record: Record, image: Image, axes: int) -> Spacing:
    """`image.grid.spacing_mm` where it is for what is there: three numbers for a volume, also for one that slices are
    cut from, two for a slice. Raises SetError where it can be for neither.
    """
    spacing = image.grid and image.grid.spacing_mm
    if not spacing or len(spacing) == axes:
        return spacing or None
    if record.volume is None and len(spacing) > axes:
        raise SetError(f"{record.file} has {axes} axes, image.grid.spacing_mm {len(spacing)} numbers")
    return None


def _oriented(record: Record, name: str, own: geometry.Grid, image: geometry.Grid) -> None:
    """Raises SetError for a mask whose affine is the identity beside an oriented image: its writer lost the geometry,
    and by which axes it is turned nobody can tell. Scanners' images may have any affine.
    """
    if image.affine is not None and not geometry.same(own, image) and geometry.is_identity(own):
        raise SetError(
            f"{record.file}: the mask {name!r} has an identity affine, which says nothing of where it lies, beside its"
            f" image's {image}; write it again with its image's affine"
        )


def limits_for(record: Record, image: Image, site: Limits) -> dict[str, tuple[float, float]]:
    """The two values of each image channel that become -1 and 1."""
    names = [name for name in image.images if name in record.channels]
    limits = {name: _limits(record, name, image.scaling(name), site) for name in names}
    joint = [name for name in names if image.scaling(name).joint]
    if joint:
        low, high = min(limits[n][0] for n in joint), max(limits[n][1] for n in joint)
        limits |= dict.fromkeys(joint, (low, high))
    return limits


def _limits(record: Record, name: str, scale: Scale, site: Limits) -> tuple[float, float]:
    known = scale.window or (record.ranges.get(name) if scale.percentiles is None and scale.of == "volume" else None)
    if known:
        return known
    if scale.of == "site" and name in site:
        return site[name]
    percentiles = scale.percentiles or PERCENTILES
    if scale.of == "volume" and record.volume is not None:
        return record.volume.limits(name, percentiles)
    return limits_of(record.channels[name], percentiles)


def outside(record: Record, image: Image) -> float:
    """Share of the image channels' values that are NaN outside of the body: in a region that touches the border of the
    image, or of the volume that a slice is of. Raises SetError for other NaN, and for Inf.
    """
    blank = size = 0
    for name in [c for c in image.images if c in record.channels]:
        plane = record.channels[name]
        size += plane.size
        bad = ~np.isfinite(plane)
        if not bad.any():
            continue
        # a slice has only what its volume had, which was looked at
        beyond = np.isnan(plane) if record.volume else touching(np.isnan(plane))
        if inside := int((bad & ~beyond).sum()):
            raise SetError(
                f"{record.file}: {name!r} has {inside} values in the body that are no numbers (NaN or Inf); mend the"
                " file. NaN is taken for background where it reaches the border of the image"
            )
        if beyond.all():
            raise SetError(f"{record.file}: {name!r} holds no number at all")
        blank += int(beyond.sum())
    return blank / max(size, 1)


def touching(marked: np.ndarray) -> np.ndarray:
    """The marked regions that reach the border of the array."""
    from scipy import ndimage

    regions, _ = ndimage.label(marked)
    found = np.unique(np.concatenate([np.take(regions, (0, -1), axis).ravel() for axis in range(marked.ndim)]))
    return np.isin(regions, found[found > 0])


def resample(
    array: np.ndarray, size: tuple[int, ...], spacing: Spacing, how: str, order: int
) -> tuple[np.ndarray, Spacing]:
    """Array (*S) at another size, and its new spacing; NaN where there was nothing.

    "pad" keeps the proportions (in mm where the spacing is known) and the middle, and makes voxels isotropic; "stretch"
    fills the size. `order` 1 is linear, after a Gaussian against aliasing where the array is reduced (sigma as in
    scikit-image's `resize`); 0 is nearest.
    """
    shape, target = np.array(array.shape), np.array(size)
    old = np.ones(len(size)) if spacing is None else np.array(spacing)
    new = shape * old / target
    if how == "pad":
        new = np.full(len(size), new.max())
    stored = None if spacing is None else tuple(new.tolist())
    step = new / old  # old voxels for each new one
    if np.allclose(step, 1, atol=1e-6) and array.shape == tuple(size):
        return array, stored
    array, finite = geometry.without_nan(array)
    start = (0.5 - target / 2) * step + shape / 2 - 0.5  # the place in the old array of the first new voxel's centre
    moved = _linear(array, step, start, size) if order else _nearest(array, step, start, size)
    if not finite.all():  # what lay outside of the body still does
        moved[_nearest((~finite).astype(np.uint8), step, start, size) > 0] = np.nan
    places = [s + np.arange(n) * by for s, n, by in zip(start, target, step, strict=True)]
    covered = np.ix_(*[_within(p, n) for p, n in zip(places, shape, strict=True)])
    framed = np.full(tuple(size), np.nan, np.float32)
    framed[covered] = moved[covered]
    return framed, stored


def _nearest(array: np.ndarray, step: np.ndarray, start: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    from scipy import ndimage

    return ndimage.affine_transform(array, step, start, tuple(size), order=0, mode="nearest")


def _linear(array: np.ndarray, step: np.ndarray, start: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """`array` smoothed where it is reduced, then interpolated at `start` + `step` * k along each axis.

    Both are linear and separable, so each axis is one sparse matrix: only voxels that are kept are computed, a fifth of
    the time of filtering the whole volume first.
    """
    kind = np.result_type(array, np.float32)  # not of integers, whose weights would be 0
    for axis, n in enumerate(size):
        weights = _weights(array.shape[axis], n, step[axis], start[axis]).astype(kind)
        moved = np.moveaxis(array, axis, 0)
        rows = weights @ moved.reshape(len(moved), -1)
        array = np.moveaxis(rows.reshape(n, *moved.shape[1:]), 0, axis)
    return array


def _weights(old: int, new: int, step: float, start: float) -> Any:
    """(new, old) sparse: each row a Gaussian of (step - 1) / 2 around a place, between two voxels; beyond the ends the
    last voxel is repeated.
    """
    from scipy import sparse

    sigma = max(0.0, (step - 1) / 2)
    reach = np.arange(-int(4 * sigma + 0.5), int(4 * sigma + 0.5) + 1)
    kernel = np.exp(-0.5 * (reach / sigma) ** 2) if sigma else np.ones(1)
    places = np.clip(start + step * np.arange(new), 0, old - 1)
    low = np.floor(places).astype(int)
    shares = np.stack([1 - (places - low), places - low], 1)  # of the voxels before and after the place
    columns = np.clip(np.clip(low[:, None] + [0, 1], 0, old - 1)[..., None] + reach, 0, old - 1)
    values = shares[..., None] * (kernel / kernel.sum())
    rows = np.broadcast_to(np.arange(new)[:, None, None], columns.shape)
    return sparse.csr_array((values.ravel(), (rows.ravel(), columns.ravel())), shape=(new, old))


def _within(places: np.ndarray, n: int) -> np.ndarray:
    """Which places along an axis are on its n voxels; the one nearest to their middle where they all pass between two,
    as through a slab that is thinner than a new voxel.
    """
    found = (places > -0.5 - 1e-6) & (places < n - 0.5 + 1e-6)
    if not found.any():
        found[np.abs(places - (n - 1) / 2).argmin()] = True
    return found


def scaled(array: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """To [-1, 1] between two values, clipped; NaN becomes the background; -1 throughout where the values are one."""
    low, high = limits
    if high <= low:
        return np.full(array.shape, -1.0)
    finite = np.isfinite(array)
    found = np.clip((np.where(finite, array, low) - low) / (high - low) * 2 - 1, -1, 1)
    return found if finite.all() else np.where(finite, found, background(found, finite))


def background(scaled: np.ndarray, there: np.ndarray) -> float:
    """The value around the image, in [-1, 1]: the median of its border where half of the border is near it, white paper
    or air; else -1.
    """
    span = [(int(w.min()), int(w.max())) for w in np.nonzero(there)] if there.any() else []
    if not span:
        return -1.0
    box = tuple(slice(a, b + 1) for a, b in span)
    values, valid = scaled[box], there[box]
    edge = np.zeros(values.shape, bool)
    for axis in range(values.ndim):
        np.moveaxis(edge, axis, 0)[[0, -1]] = True
    border = values[edge & valid]
    if not border.size:
        return -1.0
    middle = float(np.median(border))
    return middle if (np.abs(border - middle) <= 2 * UNIFORM).mean() >= 0.5 else -1.0
