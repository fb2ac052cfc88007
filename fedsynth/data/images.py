"""Reads image files, resamples them to `image.size` and scales intensities to [-1, 1], in 2-D and 3-D."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.data.manifest import SetError
from fedsynth.data.record import Record
from fedsynth.params import MOST_LAST, Image

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow
Spacing = tuple[float, ...] | None


def read(path: Path, dims: int, mask: bool = False) -> tuple[np.ndarray, Spacing]:
    """A file as planes (C, *S) float32 in its own values, and the spacing in mm where it tells one; `dims` spatial axes
    are wanted.

    PNG and JPEG (gray, or RGB as 3 planes), NIfTI (turned to DICOM's directions: z up, y to the back, x to the
    patient's left) and npy (*S, or *S and channels last). With `mask`, one plane of 0 and 1: set where any value is
    above 0.
    Raises SetError naming the file where it is missing, cannot be decoded, or has other axes.
    """
    if not path.is_file():
        raise SetError(f"{path.name} is not there")
    reader = next((r for end, r in READERS.items() if path.name.lower().endswith(end)), None)
    if reader is None:
        raise SetError(f"{path.name} is of an unknown kind; known are {', '.join(READERS)}")
    try:
        array, spacing = reader(path, dims, mask)
    # decoders raise anything on a broken file: SyntaxError, struct.error, zlib.error, EOFError …
    except Exception as error:
        raise SetError(f"{path.name} cannot be read: {error}") from error
    planes = channels_first(array, dims, path.name)
    return (
        np.ascontiguousarray(np.any(planes > 0, axis=0, keepdims=True) if mask else planes, dtype=np.float32),
        spacing,
    )


def _pillow(path: Path, dims: int, mask: bool) -> tuple[np.ndarray, Spacing]:
    from PIL import Image as Pillow
    from PIL import ImageOps

    with Pillow.open(path) as opened:
        picture = ImageOps.exif_transpose(opened)
        plain = {
            "P": "P" if mask else "RGB",
            "PA": "RGB",
            "LA": "L",
            "La": "L",
            "CMYK": "RGB",
            "YCbCr": "RGB",
            "RGBA": "RGB",
            "RGBX": "RGB",
        }
        return np.asarray(picture.convert(plain.get(picture.mode, picture.mode))), None


def _nifti(path: Path, dims: int, mask: bool) -> tuple[np.ndarray, Spacing]:
    import nibabel as nib

    volume: Any = nib.load(path)
    if len(volume.shape) == 2:
        volume = nib.Nifti1Image(np.asarray(volume.dataobj)[..., None], volume.affine)
    turn = nib.orientations.ornt_transform(nib.io_orientation(volume.affine), nib.orientations.axcodes2ornt("LPS"))
    volume = volume.as_reoriented(turn)
    array = np.asarray(volume.dataobj, dtype=np.float32)
    array = np.moveaxis(array, (0, 1, 2), (2, 1, 0))
    spacing = tuple(float(s) for s in nib.affines.voxel_sizes(volume.affine))[::-1]
    if dims == 2 and 1 in array.shape[:3]:  # one slice, whichever way it was cut
        flat = array.shape.index(1)
        array, spacing = array.squeeze(axis=flat), spacing[:flat] + spacing[flat + 1 :]
    return array, spacing if len(spacing) == dims else None


def _npy(path: Path, dims: int, mask: bool) -> tuple[np.ndarray, Spacing]:
    return np.load(path, allow_pickle=False), None


READERS = {".png": _pillow, ".jpg": _pillow, ".jpeg": _pillow, ".nii": _nifti, ".nii.gz": _nifti, ".npy": _npy}


def channels_first(array: np.ndarray, dims: int, name: str) -> np.ndarray:
    """An array (*S), or (*S, C) with up to 4 channels, as (C, *S) with `dims` spatial axes. Raises SetError with `name`
    for others.
    """
    while array.ndim > dims and array.shape[-1] == 1:
        array = array[..., 0]
    if array.size == 0 or array.ndim not in (dims, dims + 1) or (array.ndim > dims and array.shape[-1] > MOST_LAST):
        raise SetError(f"{name} has the shape {array.shape}; image.size asks for {dims} axes")
    return array[None] if array.ndim == dims else np.moveaxis(array, -1, 0)


def as_planes(planes: np.ndarray, wanted: int) -> np.ndarray:
    """Planes (C, *S) as the number of image channels asked for: RGB to gray by luminance, gray to RGB by repeating,
    drop of alpha.

    Raises SetError where there is no such way.
    """
    if len(planes) == 4 and wanted in (1, 3):
        planes = planes[:3]
    if len(planes) == wanted:
        return planes
    if len(planes) == 3 and wanted == 1:
        return np.tensordot(LUMINANCE, planes, 1)[None]
    if len(planes) == 1 and wanted == 3:
        return np.repeat(planes, 3, axis=0)
    raise SetError(f"has {len(planes)} planes, but image.channels names {wanted} image channels")


def fit(record: Record, image: Image) -> tuple[np.ndarray, Spacing]:
    """The record as (C, *S) float32 in the order and size of `image`, and its new spacing in mm.

    Image channels are scaled to [-1, 1] by `image.percentiles` and clipped; mask channels are -1 or 1, 1 where above 0.
    What is padded or was not finite is -1; so is a channel of `image.may_lack` that the record has not.

    Raises SetError naming the file where a channel is missing or of another shape.
    """
    arrays, spacing = [], None
    shape = next(iter(record.channels.values())).shape if record.channels else ()
    for name, kind in image.channels.items():
        if name not in record.channels and name in image.may_lack:
            arrays.append(np.full(image.size, -1.0))  # a blank channel is one that the image does not have
            continue
        if name not in record.channels:
            raise SetError(f"{record.file} has no channel {name!r} (it has: {', '.join(record.channels)})")
        plane = record.channels[name]
        if plane.shape != shape or plane.ndim != len(image.size):
            raise SetError(
                f"{record.file}: {name!r} has the shape {plane.shape}, image.size {list(image.size)} and the first"
                f" channel {shape}"
            )
        fitted, spacing = resample(plane, image.size, record.spacing_mm, image.fit, order=1 if kind == "image" else 0)
        arrays.append(scale(fitted, image.percentiles) if kind == "image" else np.where(fitted > 0, 1, -1))
    return np.stack(arrays).astype(np.float32), spacing


def resample(
    array: np.ndarray, size: tuple[int, ...], spacing: Spacing, how: str, order: int
) -> tuple[np.ndarray, Spacing]:
    """Array (*S) at another size, and its new spacing; NaN where there was nothing.

    "pad" keeps the proportions (in mm where the spacing is known) and the middle, and makes voxels isotropic; "stretch"
    fills the size. `order` 1 is linear, after a Gaussian against aliasing where the array is reduced (sigma as in
    scikit-image's `resize`); 0 is nearest.
    """
    from scipy import ndimage

    shape, target = np.array(array.shape), np.array(size)
    old = np.ones(len(size)) if spacing is None else np.array(spacing)
    new = shape * old / target
    if how == "pad":
        new = np.full(len(size), new.max())
    told = None if spacing is None else tuple(new.tolist())
    step = new / old  # old voxels for each new one
    if np.allclose(step, 1, atol=1e-6) and array.shape == tuple(size):
        return array, told
    finite = np.isfinite(array)
    # or one NaN would blacken its whole neighbourhood
    array = np.where(finite, array, array[finite].min() if finite.any() else 0)
    if order:
        array = ndimage.gaussian_filter(array, np.maximum(0, (step - 1) / 2), mode="nearest")
    start = (0.5 - target / 2) * step + shape / 2 - 0.5  # the place in the old array of the first new voxel's centre
    moved = ndimage.affine_transform(array, step, start, tuple(size), order=order, mode="nearest")
    places = [s + np.arange(n) * by for s, n, by in zip(start, target, step, strict=True)]
    covered = np.ix_(*[(p > -0.5 - 1e-6) & (p < n - 0.5 + 1e-6) for p, n in zip(places, shape, strict=True)])
    framed = np.full(tuple(size), np.nan, np.float32)
    framed[covered] = moved[covered]
    return framed, told


def scale(array: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """To [-1, 1] between two percentiles of the finite values; what is not finite, and a constant array, become -1."""
    finite = np.isfinite(array)
    low, high = np.percentile(array[finite], percentiles) if finite.any() else (0.0, 0.0)
    if high <= low:
        return np.full(array.shape, -1.0)
    return np.where(finite, np.clip((np.where(finite, array, low) - low) / (high - low) * 2 - 1, -1, 1), -1.0)
