"""Robust aggregation: rules that combine the sites' updates so that a few hostile ones cannot decide the result.

It uses numpy because the server does not load torch. A new rule is one file in this folder, used with
`models.<name>.robust`; the algorithm (fedsynth/algorithms) calls it in the place of the weighted mean, wherever it has
one. A rule bounds what a minority of sites can do to the model; it cannot tell a hostile site from an honest one that
is alone of its kind, and what lies within the spread of honest updates passes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from fedsynth.algorithms.fedavg import Arrays, Update

NAMED = 2.0  # a site is named where it is off by more than this factor; honest sites differ by less, as measured


class Robust(ABC):
    """A rule for K updates, of which fewer than half are hostile.

    `least`: the smallest K for which it means anything. `weighs`: whether the weights of the sites count; otherwise
    every site counts alike, because a weight is what a site says of itself. `by_entry`: whether entries are compared
    one by one, so that entries which are 0 at most sites become 0.
    """

    least = 3
    weighs = False
    by_entry = False

    @abstractmethod
    def combine(self, updates: list[Update]) -> tuple[Arrays, dict[str, str]]:
        """Returns the change of the global parameters, and for each site that is far off what was done to its update.

        The arrays of all updates have the same names and shapes, and are finite. The result does not depend on the
        order of the updates.
        """


def norms(updates: list[Update]) -> np.ndarray:
    """Euclidean norm of each update, all its arrays as one vector, (K,)."""
    return np.sqrt([sum(float(np.square(a, dtype=np.float64).sum()) for a in d.values()) for _, _, d in updates])


def weighted(updates: list[Update], weights: np.ndarray) -> Arrays:
    """Returns sum_k weights_k d_k, added in float64 in the order of the updates, as float32."""
    names = updates[0][2]
    return {
        n: np.sum([w * d[n].astype(np.float64) for w, (_, _, d) in zip(weights, updates, strict=True)], 0).astype(
            np.float32
        )
        for n in names
    }


def far_off(updates: list[Update], change: Arrays) -> dict[str, str]:
    """Returns, by site, how far its update is from `change`, for those that are NAMED times as far as the median."""
    distances = norms([(site, w, {n: a - change[n] for n, a in d.items()}) for site, w, d in updates])
    middle = float(np.median(distances))
    return {
        site: f"its update is {times(distance, middle)} as far from the result as sites are in the median"
        for (site, _, _), distance in zip(updates, distances, strict=True)
        if distance > NAMED * middle
    }


def times(value: float, middle: float) -> str:
    """Format value / middle, such as "12 times"."""
    return f"{value / middle:.3g} times" if middle > 0 else "infinitely many times"
