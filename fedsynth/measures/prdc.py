"""Precision, recall, density and coverage: fidelity and diversity as separate numbers."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fedsynth.measures import SHARE, About, Answer, Measure, MeasureInputs
from fedsynth.measures._statistics import beside_floor, blocks


class PRDC(Measure):
    """Precision and recall, density and coverage in feature space.

    Kynkaanniemi et al. 2019, arXiv:1904.06991, equations 1 and 2; Naeem et al. 2020, arXiv:2002.09797, equations 3 and
    4. The ball around an image reaches to its `k`-th nearest neighbour of the same set. None for sets of at most k
    images.
    """

    about: ClassVar = {
        "precision": About(
            "higher",
            "precision",
            "Share of the synthetic images that lie in the ball of a held-out real image: how many look real.",
            SHARE,
        ),
        "recall": About(
            "higher",
            "recall",
            "Share of the held-out real images that lie in the ball of a synthetic image: how much of what is real is"
            " made.",
            SHARE,
        ),
        "density": About(
            "higher",
            "density",
            "Number of real images' balls that a synthetic image lies in, as a share of k: precision that one outlier"
            " cannot spoil; 1 on average between samples of one distribution, and may be above.",
        ),
        "coverage": About(
            "higher",
            "coverage",
            "Share of the held-out real images with a synthetic image in their ball: recall that outliers cannot"
            " spoil.",
            SHARE,
        ),
    }
    independent = False

    def __init__(self, k: int = 5):
        if k < 1:
            raise ValueError(f"k must be 1 or more, not {k}")
        self.k = k

    def at_site(self, seen: MeasureInputs) -> Answer:
        sets = seen.features("held_out"), seen.features("train"), seen.features("synthetic")
        shares = dict.fromkeys(("precision", "recall", "coverage"), (0.0, 1.0))
        return Answer(beside_floor(seen, lambda a, b: prdc(a, b, self.k), *sets, "prdc", within=shares))


def prdc(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    """Returns the four numbers by name, for features (N, F) and (M, F); NaN for sets of at most k images.

    "Inside a ball" is "nearer than", as in the authors' code: the density of a set with respect to itself is then 1.
    """
    if min(len(real), len(fake)) <= k:
        return dict.fromkeys(PRDC.about, float("nan"))
    from scipy.spatial.distance import cdist

    of_real, of_fake = radii(real, k), radii(fake, k)
    covering, covered, recalled = np.zeros(len(fake), int), 0, 0
    for rows in blocks(len(real)):
        between = cdist(real[rows], fake)
        in_real = between < of_real[rows, None]
        covering += in_real.sum(0)
        covered += int(in_real.any(1).sum())
        recalled += int((between < of_fake[None, :]).any(1).sum())
    return {
        "precision": float((covering > 0).mean()),
        "recall": recalled / len(real),
        "density": float(covering.mean() / k),
        "coverage": covered / len(real),
    }


def radii(points: np.ndarray, k: int) -> np.ndarray:
    """Returns (N,) distances of points (N, F) to their k-th nearest other point."""
    from scipy.spatial.distance import cdist

    found = [np.partition(cdist(points[rows], points), k, axis=1)[:, k] for rows in blocks(len(points))]
    return np.concatenate(found)  # index 0 is the point itself
