"""How often a 95 % interval of a site's score holds the truth, where patients have many images that are alike; used by
tests and benchmarks/coverage.py.

The interval is the report's: a jackknife over patients (stages/score.py), drawn by worth/intervals.py. The truth p
varies from trial to trial: the share right of few patients takes few values, and at a single p the coverage of any
interval jumps with it (Brown, Cai & DasGupta 2001, doi:10.1214/ss/1009213286, figure 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fedsynth.stages import score
from fedsynth.worth import intervals

PATIENTS = (24, 36)
TRUTHS = (0.6, 0.95)  # least and largest p


class Right:
    """A use whose headline metric is the share of the images that were told right."""

    headline = "right"

    def within(self, metric: str) -> tuple[float, float]:
        return 0.0, 1.0

    def counted(self, table: dict[str, np.ndarray]) -> np.ndarray:
        return np.ones(len(table["y"]), bool)

    def value(self, table: dict[str, np.ndarray]) -> float:
        return float(table["right"].mean())

    def summarise(self, table: dict[str, np.ndarray]) -> tuple[dict[str, float], dict[str, int]]:
        return {"right": self.value(table)}, {"right": len(table["y"])}


def told(rng: np.random.Generator, patients: int, images: int, icc: float, p: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns (N,) which images were told right, with probability p, and (N,) whose they are.

    A patient's own share has the beta distribution with mean p of which `icc` is the intra-class correlation of two
    images of one patient. With one image a patient there are no two, and whatever the ICC each is right by p alone.
    """
    own = rng.beta(p * (1 - icc) / icc, (1 - p) * (1 - icc) / icc, patients) if icc else np.full(patients, p)
    who = np.repeat(np.arange(patients), images)
    return rng.random(len(who)) < own[who], who


def by_patients(right: np.ndarray, who: np.ndarray) -> float:
    """Returns the variance of the share right that a site sends."""
    found = score.covariance(Right(), {"synthetic": [{"right": right, "y": who % 2}]}, who, 1)  # type: ignore[arg-type]
    return float(found["covariance"][0][0])


def by_images(right: np.ndarray) -> float:
    """Returns the variance if each image were a patient."""
    return float(right.var() / len(right))


def holds(value: float, variance: float, truth: ArrayLike) -> np.ndarray:
    """Returns whether the 95 % interval that the centre makes of a value and its variance holds each of the truths."""
    low, high = intervals.moved(np.array([value]), np.array([[-1.96], [1.96]]) * variance**0.5)[:, 0]
    return (low <= np.asarray(truth)) & (np.asarray(truth) <= high)


def exactly(patients: int) -> float:
    """Returns the coverage with one image a patient, mean over the truths: no trial is needed, since the number right
    is binomial."""
    from scipy.stats import binom

    truths, who = np.linspace(*TRUTHS, 201), np.arange(patients)
    found = np.zeros(len(truths))
    for k in range(patients + 1):
        right = who < k
        found += binom.pmf(k, patients, truths) * holds(right.mean(), by_patients(right, who), truths)
    return float(found.mean())


def covered(rng: np.random.Generator, images: int, icc: float, trials: int) -> tuple[int, int]:
    """Returns in how many trials the interval by patients, and the one by images, holds the truth."""
    found = []
    for trial in range(trials):
        p = float(rng.uniform(*TRUTHS))
        right, who = told(rng, PATIENTS[trial % len(PATIENTS)], images, icc, p)
        found.append([holds(right.mean(), of, p) for of in (by_patients(right, who), by_images(right))])
    return tuple(np.sum(found, axis=0).tolist())
