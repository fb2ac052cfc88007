"""Coordinate-wise trimmed mean: Yin et al. 2018, arXiv:1803.01498, definition 2 and algorithm 1, option II.

"Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates".
"""

from __future__ import annotations

import numpy as np

from fedsynth.algorithms.fedavg import Arrays, Update
from fedsynth.robust import Robust, far_off


class TrimmedMean(Robust):
    """For each entry the mean of the sites' values without the largest and the smallest `share` of them (beta).

    At least one is left out at each end, and one is kept. It holds against as many hostile sites as are left out at one
    end. Raises ValueError if `share` is not in (0, 0.5).
    """

    by_entry = True

    def __init__(self, share: float = 0.2):
        self.share = share
        if not 0 < share < 0.5:
            raise ValueError(f"share must be above 0 and below 0.5, not {share}")

    def combine(self, updates: list[Update]) -> tuple[Arrays, dict[str, str]]:
        updates = sorted(updates, key=lambda u: u[0])
        k = len(updates)
        cut = min(max(1, int(self.share * k + 1e-9)), (k - 1) // 2)  # 0.2 of 5 sites is one
        change = {}
        for n in updates[0][2]:
            ordered = np.sort(np.stack([d[n] for _, _, d in updates]).astype(np.float64), 0)
            change[n] = ordered[cut : k - cut].mean(0).astype(np.float32)
        return change, far_off(updates, change)
