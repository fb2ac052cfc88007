"""Top-k sparsification: keep only the largest entries, with one byte for the index and one for the value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedsynth.compression import Arrays, Blocks, CodingError, Compression, Form

MOST = 127


class TopK(Compression):
    """Keep the `share` of each block of 256 entries with the largest absolute values, at least one.

    The values are 8-bit fractions of the block's largest. Top-k with memory: Stich et al. 2018, arXiv:1809.07599,
    algorithm 1; with quantised values: Basu et al. 2019, arXiv:1906.02367. Entries are selected by block and not over
    the whole vector, so that an index fits in one byte and a parameter with small updates is not crowded out by one
    with larger ones. Raises ValueError if `share` is not in (0, 1].
    """

    sparse = True

    def __init__(self, share: float = 1 / 16):
        self.share = share
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, not {share}")

    def form(self, sizes: Sequence[int]) -> Form:
        blocks = Blocks(sizes)
        n = int(self._kept(blocks).sum())
        return {
            "places": (np.dtype(np.uint8), n),
            "values": (np.dtype(np.int8), n),
            "scales": (np.dtype(np.float32), len(blocks.lengths)),
        }

    def _kept(self, blocks: Blocks) -> np.ndarray:
        """Returns the number of entries kept in each block, (R,)."""
        return np.ceil(self.share * blocks.lengths).astype(int)

    def encode(self, x: np.ndarray, sizes: Sequence[int]) -> Arrays:
        blocks = Blocks(sizes)
        rows, kept = blocks.rows(x), self._kept(blocks)
        order = np.argsort(np.where(blocks.there, -np.abs(rows), 1), 1, kind="stable")[:, : kept.max(initial=0)]
        chosen = np.arange(order.shape[1]) < kept[:, None]
        scales = np.abs(rows).max(1, keepdims=True)
        values = np.rint(np.take_along_axis(rows, order, 1) / np.where(scales > 0, scales, 1) * MOST)
        return {
            "places": order[chosen].astype(np.uint8),
            "values": values[chosen].astype(np.int8),
            "scales": scales[:, 0],
        }

    def decode(self, coded: Arrays, sizes: Sequence[int]) -> np.ndarray:
        blocks = Blocks(sizes)
        row = np.repeat(np.arange(len(blocks.lengths)), self._kept(blocks))
        if (coded["places"] >= blocks.lengths[row]).any():
            raise CodingError("a place is beyond its block")
        if (coded["scales"] < 0).any():
            raise CodingError("a scale is negative")
        rows = np.zeros(blocks.there.shape, np.float32)
        rows[row, coded["places"]] = coded["values"] * (coded["scales"][row] / MOST)
        return blocks.flat(rows)
