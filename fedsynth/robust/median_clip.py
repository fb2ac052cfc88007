"""Updates scaled down to the median norm: Sun et al. 2019, arXiv:1911.07963, section 4 ("norm thresholding").

"Can You Really Backdoor Federated Learning?" There the threshold is a number; here it is the median of the round's
norms, as training makes updates smaller from round to round.
"""

from __future__ import annotations

import numpy as np

from fedsynth.algorithms.fedavg import Arrays, Update
from fedsynth.robust import NAMED, Robust, norms, times, weighted


class MedianClip(Robust):
    """The weighted mean of d_k min(1, `bound` m / |d_k|), m the median of the norms |d_k|.

    A weight above `weight` times the median of the weights counts as that. So one site moves the model by at
    most `weight` / (`weight` + K - 1) of `bound` m where the others weigh alike. It stops updates that are large, and
    not one that points the other way. Raises ValueError if `bound` is not positive or `weight` is below 1.
    """

    weighs = True

    def __init__(self, bound: float = 1.0, weight: float = 3.0):
        self.bound, self.weight = bound, weight
        if bound <= 0:
            raise ValueError(f"bound must be above 0, not {bound}")
        if weight < 1:
            raise ValueError(f"weight must be at least 1, not {weight}")

    def combine(self, updates: list[Update]) -> tuple[Arrays, dict[str, str]]:
        updates = sorted(updates, key=lambda u: u[0])
        sizes, claimed = norms(updates), np.array([w for _, w, _ in updates])
        middle, usual = float(np.median(sizes)), float(np.median(claimed))
        most = self.bound * middle
        factors = np.where(sizes > most, most / np.where(sizes > 0, sizes, 1), 1.0)
        weights = np.minimum(claimed, self.weight * usual)
        said: dict[str, list[str]] = {}
        for (site, _, _), size, w in zip(updates, sizes, claimed, strict=True):
            if size > max(most, NAMED * middle):
                said.setdefault(site, []).append(
                    f"the norm of its update is {times(size, middle)} the median, and was scaled down to"
                    f" {self.bound:g} times"
                )
            if w > self.weight * usual:
                said.setdefault(site, []).append(
                    f"its weight is {times(w, usual)} the median, and counts as {self.weight:g} times"
                )
        return weighted(updates, weights * factors / weights.sum()), {site: "; ".join(of) for site, of in said.items()}
