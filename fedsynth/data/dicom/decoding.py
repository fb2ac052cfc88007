"""Decodes the pixels of a frame as they are stored, or says why that cannot be."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from fedsynth.data.manifest import SetError


def decoded(file: Any, number: int, name: str) -> np.ndarray:
    """A frame's stored values (H, W) or (H, W, 3), colours as RGB, by pydicom's decoders. Raises SetError with `name`
    and the true reason.
    """
    from pydicom.pixels import get_decoder

    if not any(tag in file for tag in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise SetError(f"{name} holds no pixels; export it again with its pixel data")
    syntax = file.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise SetError(
            f"{name} has pixels of an unknown transfer syntax; export it as Explicit VR Little Endian"
        ) from None
    if not decoder.is_available:
        raise SetError(
            f"{name} is compressed ({syntax.name}), which needs a decoder that is not installed: pip install"
            " 'fedsynth[dicom]'"
        )
    shift, whole = _shift(file, syntax)
    array: np.ndarray | None
    try:
        array, _ = decoder.as_array(file, index=number, **whole)  # type: ignore[arg-type]
    except Exception as error:  # of any decoder
        array = _by_gdcm(file, number, syntax)
        if array is None:
            raise SetError(_why(file, syntax, error, name)) from None
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    return array if not shift else array >> shift


def _by_gdcm(file: Any, number: int, syntax: Any) -> np.ndarray | None:
    """A gray frame (H, W) that GDCM alone can decode: its own writer says 16 bits where JPEG Extended has 12. None
    where it cannot.
    """
    if not syntax.is_encapsulated or file.SamplesPerPixel != 1 or not find_spec("gdcm"):
        return None
    import gdcm

    gdcm.Trace.WarningOff()  # it would name the file
    gdcm.Trace.ErrorOff()
    reader = gdcm.ImageReader()
    reader.SetFileName(str(file.filename))
    if not reader.Read():
        return None
    image = reader.GetImage()
    if (buffer := image.GetBuffer()) is None:
        return None
    kind = image.GetPixelFormat().GetScalarTypeAsString().lower()  # "uint16"
    found = np.frombuffer(buffer.encode("utf-8", "surrogateescape"), kind)
    return found.reshape(int(file.get("NumberOfFrames") or 1), file.Rows, file.Columns)[number]


def _shift(file: Any, syntax: Any) -> tuple[int, dict[str, int]]:
    """By how many bits a sample lies above the lowest one (HighBit), which pydicom passes over; 0 as a rule."""
    bits, high, allocated = (int(file.get(tag) or 0) for tag in ("BitsStored", "HighBit", "BitsAllocated"))
    if syntax.is_encapsulated or allocated <= 8 or not bits <= high + 1 <= allocated or high + 1 == bits:
        return 0, {}
    if high + 1 != allocated:
        return 0, {}
    return allocated - bits, {"bits_stored": allocated}


def _why(file: Any, syntax: Any, error: Exception, name: str) -> str:
    """Why pixels could not be decoded, in words that say nothing of the patient."""
    allocated, bits = int(file.get("BitsAllocated") or 0), int(file.get("BitsStored") or 0)
    if bits > allocated or not bits:
        return f"{name} says that {bits} of {allocated} bits of a pixel are stored, which cannot be; export it again"
    if syntax.is_encapsulated:
        return (
            f"{name} has pixels ({syntax.name}) that no decoder takes: they may be damaged, or not be what the transfer"
            " syntax says; export it uncompressed"
        )
    there, wanted = len(file.get("PixelData") or b""), _bytes(file, allocated)
    if there < wanted:
        return f"{name} breaks off: it has {there} of {wanted} bytes of pixels; export it again"
    return f"{name} has pixels that its header does not describe ({type(error).__name__}); export it again"


def _bytes(file: Any, allocated: int) -> int:
    frames, samples = int(file.get("NumberOfFrames") or 1), int(file.get("SamplesPerPixel") or 1)
    return -(-frames * samples * int(file.Rows) * int(file.Columns) * allocated // 8)
