"""Lossy compression of updates: encode a vector of parameters as a few arrays, and decode it.

It uses numpy because the server does not load torch. A new coding is one file in this folder, used with
`models.<name>.compression: {up: ..., down: ...}`. The sender adds what a coding leaves out to the next vector (error
feedback, fedsynth/training/coding.py), so a coding must only be a *contraction*: ||x - decode(encode(x))|| < ||x|| for
every x that is not 0 (Stich et al. 2018, arXiv:1809.07599, definition 2.1; Karimireddy et al. 2019, arXiv:1901.09847,
assumption A).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from fedsynth.errors import UserError

Arrays = dict[str, np.ndarray]
Form = dict[str, tuple[np.dtype, int]]  # dtype and length of each coded array, by name
BLOCK = 256  # entries that share a scale; an index within a block fits in one byte


class CodingError(UserError):
    """Coded arrays that do not match what the other side encodes; the message says what is wrong with them."""


class Compression(ABC):
    """A coding of vectors x (n,) of float32, n = sum(sizes): the parameters, of lengths `sizes`, concatenated.

    `sparse`: whether most entries are decoded as 0, other ones at each site.
    """

    sparse = False

    @abstractmethod
    def form(self, sizes: Sequence[int]) -> Form:
        """Returns dtype and length of the arrays that `encode` returns for any x; nothing else may leave a hospital."""

    @abstractmethod
    def encode(self, x: np.ndarray, sizes: Sequence[int]) -> Arrays: ...

    @abstractmethod
    def decode(self, coded: Arrays, sizes: Sequence[int]) -> np.ndarray:
        """Returns the decoded vector x (n,).

        Raises CodingError for arrays of the right form with invalid values.
        """


class Blocks:
    """The parameters split into R blocks of at most BLOCK entries.

    `lengths` (R,) are the blocks' lengths; `rows` arranges a vector as (R, BLOCK), padded with 0, and `flat` is its
    inverse.
    """

    def __init__(self, sizes: Sequence[int]):
        self.n = int(sum(sizes))
        self.lengths = np.array([min(BLOCK, size - start) for size in sizes for start in range(0, size, BLOCK)], int)
        self.there = np.arange(BLOCK) < self.lengths[:, None]  # (R, BLOCK)

    def rows(self, x: np.ndarray) -> np.ndarray:
        found = np.zeros(self.there.shape, np.float32)
        found[self.there] = x
        return found

    def flat(self, rows: np.ndarray) -> np.ndarray:
        return rows[self.there]
