"""Lossy compression of updates: a vector of parameters to a few coded arrays and back. In numpy, because the server
has no torch.

A kind of coding is one file here, used with `models.<name>.compression: {up: ..., down: ...}`. What a coding leaves out
is not lost: its sender adds it to the next vector (error feedback, fedsynth/training/coding.py), so a coding must only
be a *contraction*: ||x - decode(encode(x))|| < ||x|| for x that is not 0 (Stich et al. 2018, arXiv:1809.07599,
definition 2.1; Karimireddy et al. 2019, arXiv:1901.09847, assumption A).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from fedsynth.errors import UserError

Arrays = dict[str, np.ndarray]
Form = dict[str, tuple[np.dtype, int]]  # of each coded array its type and its length
BLOCK = 256  # entries that share a scale, so that a place within them is one byte


class CodingError(UserError):
    """Coded arrays that cannot be what the other side has coded; the message says what is wrong with them."""


class Compression(ABC):
    """`sizes` are the lengths of the parameters, one after the other in the vector x (sum of `sizes`,) of float32."""

    @abstractmethod
    def form(self, sizes: Sequence[int]) -> Form:
        """What `encode` gives, whatever x holds: nothing else may leave a hospital."""

    @abstractmethod
    def encode(self, x: np.ndarray, sizes: Sequence[int]) -> Arrays: ...

    @abstractmethod
    def decode(self, coded: Arrays, sizes: Sequence[int]) -> np.ndarray:
        """x as the other side has it. Raises CodingError for arrays of the right form that make no sense."""


class Blocks:
    """Each parameter in rows of up to BLOCK entries: `lengths` (R,), and `rows` (R, BLOCK) of a vector, filled up with
    0.
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
