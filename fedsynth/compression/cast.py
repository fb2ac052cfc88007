"""Cast to 16-bit floats, which halves the bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedsynth.compression import Arrays, Compression, Form

TYPES = ("float16", "bfloat16")


class Cast(Compression):
    """Rounding to the nearest value of a 16-bit `dtype`.

    "float16" has 11 bits of precision and a maximum of 65504; "bfloat16" has 8 bits and the range of float32. Raises
    ValueError for another dtype.
    """

    def __init__(self, dtype: str = "float16"):
        self.dtype = dtype
        if dtype not in TYPES:
            raise ValueError(f"dtype must be one of {', '.join(TYPES)}, not {dtype!r}")

    def form(self, sizes: Sequence[int]) -> Form:
        return {"values": (np.dtype(np.float16 if self.dtype == "float16" else np.uint16), int(sum(sizes)))}

    def encode(self, x: np.ndarray, sizes: Sequence[int]) -> Arrays:
        if self.dtype == "float16":
            most = np.finfo(np.float16).max
            return {"values": x.clip(-most, most).astype(np.float16)}
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
        # numpy has no bfloat16; it is the upper half of a float32
        return {"values": ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)}

    def decode(self, coded: Arrays, sizes: Sequence[int]) -> np.ndarray:
        values = coded["values"]
        return (
            values.astype(np.float32) if self.dtype == "float16" else (values.astype(np.uint32) << 16).view(np.float32)
        )
