"""Reads image files: pictures, NIfTI and arrays of NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.data.geometry import Grid
from fedsynth.data.manifest import SetError
from fedsynth.data.planes import BITS8, COLOURS, INDEX, Planes
from fedsynth.params import MOST_LAST
from fedsynth.params.names import normal

MILLIMETRES = {"mm": 1.0, "micron": 1e-3, "meter": 1e3, "unknown": 1.0}
TIMES = {8: "s", 16: "ms", 24: "us"}  # codes of NIfTI's xyzt_units for a fourth axis in time
TO_LPS = np.diag([-1.0, -1.0, 1.0])  # NIfTI's x runs to the right and y to the front
SLICES = "; source.args.slices takes slices of volumes"
PLAIN = {"PA": "RGB", "La": "LA", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB", "RGBX": "RGB"}


GEOMETRY = ("affine", "spacing_mm", "spacing")  # of an npz


def read(path: Path, dims: int, mask: bool = False) -> Planes:
    """A file as planes (C, *S) float32 in its own values; `dims` spatial axes are wanted.

    PNG, JPEG, TIFF and BMP (gray, or red, green and blue; turned as EXIF says), NIfTI (turned to z up, y to the back, x
    to the patient's left, in mm), npy (*S, or *S and channels last), and npz of one array with its `affine` or
    `spacing_mm`. With `mask`, a palette's indices are taken instead of its colours, and transparency is kept as a last
    plane.
    Raises SetError naming the file where it is missing, cannot be decoded, or has other axes.
    """
    path = find(path)
    reader = next((r for end, r in READERS.items() if path.name.lower().endswith(end)), None)
    if reader is None:
        raise SetError(f"{path.name} is of an unknown kind; known are {', '.join(READERS)}")
    try:
        return reader(path, dims, mask)
    except SetError:
        raise
    # decoders raise anything on a broken file: SyntaxError, struct.error, zlib.error, EOFError …
    except Exception as error:
        raise SetError(f"{path.name} cannot be read: {error}") from error


def find(path: Path) -> Path:
    """The file, whichever Unicode form its name has on this disk ("ü" as one sign or as two, NFC or NFD).
    Raises SetError where it is not there, or two are.
    """
    if path.is_file():
        return path
    near = [p for p in _near(path) if p.is_file()]
    if len(near) != 1:
        raise SetError(f"{path.name} is not there" if not near else f"{path.name} may be one of {len(near)} files")
    return near[0]


def _near(path: Path) -> list[Path]:
    """What has this name in some Unicode form; its folders may have another form, too."""
    if path.exists() or path == path.parent:
        return [path]
    folders = [p for p in _near(path.parent) if p.is_dir()]
    return [p for folder in folders for p in folder.iterdir() if _nfc(p) == _nfc(path)]


def _nfc(path: Path) -> str:
    return normal(path.name)


def _pillow(path: Path, dims: int, mask: bool) -> Planes:
    from PIL import Image as Pillow
    from PIL import ImageOps

    with Pillow.open(path) as opened:
        pictures = getattr(opened, "n_frames", 1)
        if pictures > 1 and opened.format != "MPO":  # a camera's JPEG with a preview
            raise SetError(f"{path.name} holds {pictures} pictures; save the one that is meant")
        exif = int(opened.getexif().get(0x0112, 1))
        picture = ImageOps.exif_transpose(opened)
        lossy = opened.format in ("JPEG", "MPO")
    mode = PLAIN.get(picture.mode, picture.mode)
    if mode == "P" and not mask:
        mode = "RGB"
    if mode in ("LA", "RGBA") and not mask:
        mode = mode.removesuffix("A")  # transparency is no part of an image
    array = np.asarray(picture.convert(mode) if mode != picture.mode else picture)
    planes = channels_first(array, dims, path.name)
    top = {"uint8": 255.0, "uint16": 65535.0, "bool": 1.0}.get(str(array.dtype))
    named = COLOURS if mode == "RGB" else ("gray",) if mode != "P" else ()
    return Planes(
        np.ascontiguousarray(planes, np.float32),
        Grid(planes.shape[1:]),
        named if not mask else INDEX if mode == "P" else (),
        BITS8 if top == BITS8[1] else None,
        exif if exif in range(1, 9) else 1,
        lossy,
    )


def _nifti(path: Path, dims: int, mask: bool) -> Planes:
    import nibabel as nib

    volume: Any = nib.load(path)
    array = np.asarray(volume.dataobj)
    if array.dtype.fields:  # RGB of NIfTI: a structure for each voxel
        array = np.stack([array[c] for c in array.dtype.fields], -1)
        named: tuple[str, ...] = COLOURS
        array = array[..., :3]
    else:
        named = ()
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 5 and array.shape[3] == 1:  # NIfTI's vectors lie on a fifth axis
        array = array[:, :, :, 0]
    planes, grid = _in_space(array, _affine(volume), dims, path.name)
    times = len(planes) > 1 and int(volume.header["xyzt_units"]) & 56 in TIMES if hasattr(volume, "header") else False
    return Planes(np.ascontiguousarray(planes, np.float32), grid, named, times=times)


def _in_space(array: np.ndarray, affine: np.ndarray | None, dims: int, name: str) -> tuple[np.ndarray, Grid]:
    """An array (X, Y, Z), or with channels last, whose `affine` (4, 4) gives mm (RAS), as planes (C, *S) turned to our
    axes, and their grid. Raises SetError with `name` for other than `dims` axes.
    """
    import nibabel as nib

    if affine is not None:
        turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt("LPS"))
        shape = array.shape[:3]
        array = nib.orientations.apply_orientation(array, turn)
        affine = affine @ nib.orientations.inv_ornt_aff(turn, shape)
    array = np.moveaxis(array, (0, 1, 2), (2, 1, 0))
    grid = Grid(array.shape[:3], None if affine is None else (TO_LPS @ affine[:3])[:, [2, 1, 0, 3]])
    if dims == 2 and 1 in array.shape[:3]:  # one slice, whichever way it was cut
        flat = array.shape.index(1)
        array, grid = array.squeeze(axis=flat), grid.without(flat, 0)
    # the first three axes of NIfTI are those of space, however short
    if array.size == 0 or len(grid.shape) != dims or array.ndim > dims + 1:
        said = "a volume of " * (len(grid.shape) == 3) + "x".join(map(str, array.shape))
        raise SetError(f"{name} is {said} voxels; image.size asks for {dims} axes{SLICES * (dims == 2)}")
    return array[None] if array.ndim == dims else np.moveaxis(array, -1, 0), grid


def _affine(volume: Any) -> np.ndarray | None:
    """(4, 4) in mm (RAS): sform, else qform, else the voxels' size; None where the header gives none of them."""
    header = volume.header
    sform, qform = (form(coded=True) for form in (volume.get_sform, volume.get_qform))
    unit = MILLIMETRES[header.get_xyzt_units()[0]]
    for affine, code in (sform, qform):
        # some writers set the code and leave the matrix 0
        if code and affine is not None and np.linalg.matrix_rank(affine[:3, :3]) == 3 and np.isfinite(affine).all():
            return np.diag([unit, unit, unit, 1.0]) @ affine
    zooms = np.array((*header.get_zooms()[:3], 0, 0, 0)[:3], float)
    if not (zooms > 0).all() or not np.isfinite(zooms).all():
        return None
    return np.diag([unit, unit, unit, 1.0]) @ header.get_base_affine()


def _npy(path: Path, dims: int, mask: bool) -> Planes:
    planes = channels_first(np.load(path, allow_pickle=False), dims, path.name)
    return Planes(np.ascontiguousarray(planes, np.float32), Grid(planes.shape[1:]))


def _npz(path: Path, dims: int, mask: bool) -> Planes:
    """One array, with its geometry: `affine` (4, 4) from the array's indices to mm (RAS, as nibabel), or `spacing_mm`
    or `spacing`, a number for each spatial axis, of an array whose axes run as ours do.
    """
    with np.load(path, allow_pickle=False) as file:
        names = [name for name in file.files if name not in GEOMETRY]
        if len(names) != 1:
            raise SetError(
                f"{path.name} holds the arrays {', '.join(names) or 'none'}; one is needed beside its geometry"
            )
        array = file[names[0]]
        known = {name: np.asarray(file[name], float) for name in GEOMETRY if name in file.files}
    if "affine" in known:
        affine = known["affine"]
        if affine.shape != (4, 4) or np.linalg.matrix_rank(affine[:3, :3]) < 3:
            raise SetError(f"{path.name}: `affine` must be 4 x 4, from indices to mm, and not singular")
        planes, grid = _in_space(array[..., None] if array.ndim == 2 else array, affine, dims, path.name)
        return Planes(np.ascontiguousarray(planes, np.float32), grid)
    planes = channels_first(array, dims, path.name)
    spacing = next((known[name] for name in GEOMETRY[1:] if name in known), None)
    if spacing is not None and (spacing.shape != (dims,) or not (spacing > 0).all()):
        raise SetError(f"{path.name}: spacing must be {dims} numbers above 0, in mm")
    return Planes(np.ascontiguousarray(planes, np.float32), Grid(planes.shape[1:], _along_axes(spacing)))


def _along_axes(spacing: np.ndarray | None) -> np.ndarray | None:
    """(3, d + 1) of axes z, y, x (or y, x) that run as ours do, from the origin."""
    if spacing is None:
        return None
    steps = np.zeros((3, len(spacing) + 1))
    for axis, step in enumerate(spacing):
        steps[len(spacing) - 1 - axis, axis] = step
    return steps


READERS = {
    ".png": _pillow, ".jpg": _pillow, ".jpeg": _pillow, ".tif": _pillow, ".tiff": _pillow, ".bmp": _pillow,
    ".nii": _nifti, ".nii.gz": _nifti, ".npy": _npy,
    ".npz": _npz,
}  # fmt: skip


def channels_first(array: np.ndarray, dims: int, name: str) -> np.ndarray:
    """An array (*S), or (*S, C) with up to 4 channels, as (C, *S) with `dims` spatial axes. Raises SetError with `name`
    for others.
    """
    while array.ndim > dims and array.shape[-1] == 1:
        array = array[..., 0]
    if array.size == 0 or array.ndim not in (dims, dims + 1) or (array.ndim > dims and array.shape[-1] > MOST_LAST):
        raise SetError(f"{name} has the shape {array.shape}; image.size asks for {dims} axes")
    return array[None] if array.ndim == dims else np.moveaxis(array, -1, 0)
