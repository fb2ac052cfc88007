"""Quantisation to 1 to 8 bits per entry, with one scale per block of entries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedsynth.compression import Arrays, Blocks, CodingError, Compression, Form

BITS = (1, 2, 4, 8)
FITS = 4  # iterations that alternate between fitting the levels and the scale


class Quantize(Compression):
    """Quantise to 2^bits levels at odd multiples of s / 2, with the best-fitting scale s for each block of 256 entries.

    With levels q chosen, s = <x, q> / <q, q> gives ||x - s q||^2 = ||x||^2 - <x, q>^2 / ||q||^2, so the coding is a
    contraction. bits = 1 is the scaled sign, s / 2 = mean |x| (Seide et al. 2014, "1-bit stochastic gradient descent";
    Karimireddy et al. 2019, arXiv:1901.09847, algorithm 1, EF-signSGD). Rounding is to the nearest: with error
    feedback, no random rounding is needed to avoid a bias in the long run. Raises ValueError for `bits` other than 1,
    2, 4 and 8.
    """

    def __init__(self, bits: int = 8):
        self.bits = bits
        if bits not in BITS:
            raise ValueError(f"bits must be one of {', '.join(map(str, BITS))}, not {bits!r}")

    def form(self, sizes: Sequence[int]) -> Form:
        blocks = Blocks(sizes)
        return {
            "codes": (np.dtype(np.uint8), -(-blocks.n * self.bits // 8)),
            "scales": (np.dtype(np.float32), len(blocks.lengths)),
        }

    def encode(self, x: np.ndarray, sizes: Sequence[int]) -> Arrays:
        blocks, half = Blocks(sizes), 2 ** (self.bits - 1)
        rows = blocks.rows(x)
        scales = np.abs(rows).max(1, keepdims=True) / half
        for _ in range(FITS):
            codes = np.floor(rows / np.where(scales > 0, scales, 1)).clip(-half, half - 1)
            levels = np.where(blocks.there, codes + 0.5, 0)
            scales = np.maximum((rows * levels).sum(1, keepdims=True) / (levels**2).sum(1, keepdims=True), 0)
        return {
            "codes": pack(blocks.flat(codes + half).astype(np.uint8), self.bits),
            "scales": scales[:, 0].astype(np.float32),
        }

    def decode(self, coded: Arrays, sizes: Sequence[int]) -> np.ndarray:
        blocks, half = Blocks(sizes), 2 ** (self.bits - 1)
        if (coded["scales"] < 0).any():
            raise CodingError("a scale is negative")
        levels = unpack(coded["codes"], self.bits, blocks.n).astype(np.float32) - half + 0.5
        return levels * np.repeat(coded["scales"], blocks.lengths)


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Pack (n,) numbers below 2^bits into (n bits / 8,) bytes, the first in the lowest bits."""
    each = 8 // bits
    lanes = np.pad(codes, (0, -len(codes) % each)).reshape(-1, each)
    return np.bitwise_or.reduce(lanes << (bits * np.arange(each, dtype=np.uint8)), 1).astype(np.uint8)


def unpack(packed: np.ndarray, bits: int, n: int) -> np.ndarray:
    lanes = packed[:, None] >> (bits * np.arange(8 // bits, dtype=np.uint8))
    return (lanes & (2**bits - 1)).reshape(-1)[:n]
