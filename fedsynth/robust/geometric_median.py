"""Geometric median (RFA): Pillutla et al. 2022, arXiv:1912.13445, algorithm 2, smoothed Weiszfeld.

"Robust Aggregation for Federated Learning".
"""

from __future__ import annotations

import numpy as np

from fedsynth.algorithms.fedavg import Arrays, Update
from fedsynth.robust import NAMED, Robust, weighted

TOLERANCE = 1e-7  # change of the sites' shares at which the iteration ends
FAR = 100.0  # times the median norm: what is farther pulls no harder, and would drown the others' digits


class GeometricMedian(Robust):
    """The point v with the least sum of distances |v - d_k| to the updates, all arrays of an update as one vector.

    Each step of Weiszfeld's iteration replaces v by the mean of the updates with weights 1 / max(`smoothing` m,
    |v - d_k|), m the median of the norms. v is always a weighted mean of the updates, so that the iteration needs
    their inner products alone. Updates longer than FAR m are shortened to it. (The paper weighs by n_k, too; here every
    site counts alike.) Raises ValueError if `smoothing` is not in (0, 1) or `steps` is below 1.
    """

    def __init__(self, smoothing: float = 1e-6, steps: int = 300):
        self.smoothing, self.steps = smoothing, steps
        if not 0 < smoothing < 1:
            raise ValueError(f"smoothing must be above 0 and below 1, not {smoothing}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")

    def combine(self, updates: list[Update]) -> tuple[Arrays, dict[str, str]]:
        updates = sorted(updates, key=lambda u: u[0])
        gram = products([d for _, _, d in updates])
        sizes = np.sqrt(np.diag(gram))
        most = FAR * float(np.median(sizes))
        factors = np.where(sizes > most, most / np.where(sizes > 0, sizes, 1), 1.0)
        shares = self.shares(gram * factors[:, None] * factors) * factors
        said = {
            site: f"its update counts {share * len(updates):.2g} times as much as in a mean"
            for (site, _, _), share in zip(updates, shares, strict=True)
            if share * len(updates) < 1 / NAMED
        }
        return weighted(updates, shares), said

    def shares(self, gram: np.ndarray) -> np.ndarray:
        """Returns the weights (K,) of the updates in the geometric median, from their inner products (K, K)."""
        norms, shares = np.sqrt(np.diag(gram)), np.full(len(gram), 1 / len(gram))
        floor = self.smoothing * float(np.median(norms)) or 1.0
        squares = np.maximum(norms[:, None] ** 2 + norms**2 - 2 * gram, 0)  # |d_j - d_k|^2
        for _ in range(self.steps):
            # |v - d_k|^2 for v = sum_j s_j d_j, where sum_j s_j = 1
            off = squares @ shares - 0.5 * shares @ squares @ shares
            near = 1 / np.maximum(floor, np.sqrt(np.maximum(off, 0)))
            before, shares = shares, near / near.sum()
            if np.abs(shares - before).max() < TOLERANCE:
                break
        return shares


def products(vectors: list[Arrays]) -> np.ndarray:
    """Inner products of the vectors, in float64, (K, K)."""
    gram = np.zeros((len(vectors), len(vectors)))
    for name in vectors[0]:
        rows = np.stack([v[name].ravel() for v in vectors]).astype(np.float64)
        gram += rows @ rows.T
    return gram
