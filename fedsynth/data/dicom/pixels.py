"""Pixels of a frame in the values that the scanner meant.

pydicom decodes them; what follows are the modality's slope or table, MONOCHROME1, palettes and padding (PS3.3 C.7.6.3,
C.11.1). No window of a viewer is applied.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedsynth.data.dicom.decoding import decoded
from fedsynth.data.dicom.files import reading
from fedsynth.data.dicom.frames import find, first
from fedsynth.data.images import touching
from fedsynth.data.planes import BITS8, COLOURS, HU

INVERTED = "MONOCHROME1"
NO_RANGE = ("MR", "NM", "PT")  # 8 bits of them are no brightness of a picture
Ends = tuple[float, float]


def values(file: Any, number: int, mirror: float | None, name: str) -> np.ndarray:
    """A frame as planes (C, H, W) float32: one of gray values, or red, green and blue. Padding that reaches the border
    is NaN.

    `mirror` is the sum of the two ends of the series' values (`ends`), about which MONOCHROME1 is turned. Raises
    SetError with `name`.
    """
    from pydicom.pixels import apply_color_lut

    with reading(name):
        stored = decoded(file, number, name)
        if file.PhotometricInterpretation == "PALETTE COLOR":
            table = apply_color_lut(stored, file)[..., :3]
            stored = table if table.dtype == np.uint8 else (table >> 8).astype(np.uint8)
        if stored.ndim == 3:
            return np.ascontiguousarray(np.moveaxis(stored, -1, 0), np.float32)
        found = _rescaled(stored, file, number)
        if file.PhotometricInterpretation == INVERTED:
            found = (sum(ends(file)) if mirror is None else mirror) - found
        found[_padding(stored, file)] = np.nan
        return found[None]


def names_of(file: Any) -> tuple[str, ...]:
    """Names of a frame's planes."""
    return ("gray",) if str(file.PhotometricInterpretation).startswith("MONOCHROME") else COLOURS


def range_of(file: Any) -> Ends | None:
    """The range of a kind of file: Hounsfield units of a CT, 8 bits of a picture; None where values have none."""
    if str(file.get("Modality")) == "CT" and _has_units(file):
        return HU
    plain = int(file.get("BitsStored") or 16) == 8 and str(file.get("Modality")) not in NO_RANGE
    return BITS8 if names_of(file) == COLOURS or (plain and not _transforms(file, 0)) else None


def ends(about: Any) -> Ends:
    """The lowest and the highest value that the pixels of a file can have, of all its frames, from its header."""
    bits, signed = int(about.get("BitsStored") or 16), bool(about.get("PixelRepresentation") or 0)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if table := first(about.get("ModalityLUTSequence")):
        # the table itself is in the header
        there = np.asarray(_table(table))
        return float(there.min()), float(there.max())
    frames = range(len(about.get("PerFrameFunctionalGroupsSequence") or [0]))
    found = [slope * end + shift for n in frames for slope, shift in [_slope(about, n)] for end in (low, high)]
    return min(found), max(found)


def _table(table: Any) -> Any:
    data = table.LUTData
    return np.frombuffer(data, "<u2") if isinstance(data, bytes) else data


def _transforms(file: Any, number: int) -> bool:
    return "ModalityLUTSequence" in file or _slope(file, number) != (1.0, 0.0)


def _has_units(file: Any) -> bool:
    """Whether a CT's values are Hounsfield units, as far as it says."""
    shared, group = _groups(file, 0)
    kind = find("RescaleType", "PixelValueTransformationSequence", file, shared, group)
    scaled = find("RescaleIntercept", "PixelValueTransformationSequence", file, shared, group) is not None
    return scaled and str(kind or "HU").upper() in ("HU", "HU_MOD")


def _groups(file: Any, number: int) -> tuple[Any, Any]:
    groups = file.get("PerFrameFunctionalGroupsSequence") or []
    return first(file.get("SharedFunctionalGroupsSequence")), groups[number] if number < len(groups) else {}


def _slope(file: Any, number: int) -> tuple[float, float]:
    shared, group = _groups(file, number)
    slope, shift = (
        find(tag, "PixelValueTransformationSequence", file, shared, group)
        for tag in ("RescaleSlope", "RescaleIntercept")
    )
    return float(1 if slope is None else slope), float(shift or 0)


def _rescaled(stored: np.ndarray, file: Any, number: int) -> np.ndarray:
    """(H, W) float32 by the file's table, or by slope and intercept of the frame."""
    from pydicom.pixels import apply_modality_lut

    if "ModalityLUTSequence" in file:
        return np.array(apply_modality_lut(stored, file), np.float32)
    slope, shift = _slope(file, number)
    return (stored.astype(np.float64) * slope + shift).astype(np.float32)


def _padding(stored: np.ndarray, file: Any) -> np.ndarray:
    """Where a frame is padded (PixelPaddingValue up to PixelPaddingRangeLimit, as stored), in regions that reach its
    border: the same value within the body is a value.
    """
    value, limit = file.get("PixelPaddingValue"), file.get("PixelPaddingRangeLimit")
    if value is None or stored.dtype.kind not in "iu":
        return np.zeros(stored.shape, bool)
    low, high = sorted(_as_stored(v, stored.dtype) for v in (value, value if limit is None else limit))
    padded = (stored >= low) & (stored <= high)
    return touching(padded) if padded.any() else padded


def _as_stored(value: Any, dtype: np.dtype) -> int:
    """A value written as signed or unsigned, as the pixels are: 63536 is -2000 in 16 bits."""
    bits = 8 * dtype.itemsize
    wrapped = int(value) % 2**bits
    return wrapped - 2**bits if dtype.kind == "i" and wrapped >= 2 ** (bits - 1) else wrapped
