"""Coordinate-wise median: Yin et al. 2018, arXiv:1803.01498, definition 1 and algorithm 1, option I.

"Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates".
"""

from __future__ import annotations

import numpy as np

from fedsynth.algorithms.fedavg import Arrays, Update
from fedsynth.robust import Robust, far_off


class Median(Robust):
    """The median of the sites' values, for each entry; of an even number of sites the mean of the middle two."""

    by_entry = True

    def combine(self, updates: list[Update]) -> tuple[Arrays, dict[str, str]]:
        updates = sorted(updates, key=lambda u: u[0])
        change = {
            n: np.median(np.stack([d[n] for _, _, d in updates]).astype(np.float64), 0).astype(np.float32)
            for n in updates[0][2]
        }
        return change, far_off(updates, change)
