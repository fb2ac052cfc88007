"""What releases of any mechanism cost one subject, so that those of all trainings can be added up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import logsumexp
from scipy.stats import binom

from fedsynth.privacy.noise import ORDERS, Step
from fedsynth.privacy.noise import divergence as of_one

FINEST = 100_000  # points of the largest grid on which an integral is taken
WIDTH, PER_DEVIATION = 15, 6  # half width beyond the outermost mean, and points per standard deviation


@dataclass(frozen=True)
class Spent:
    """Steps of one mechanism, and the largest number of its units (`group`) that one subject is."""

    steps: tuple[Step, ...]
    group: int = 1

    def divergences(self) -> np.ndarray:
        """Returns the Rényi divergences at ORDERS, for one subject more or less; they add up over releases."""
        found = [steps * divergence(noise, rate, self.group) for noise, rate, steps in self.steps]
        return np.minimum(np.sum([np.zeros(len(ORDERS)), *found], 0), 1e300)  # JSON has no infinity


def group_of(unit: str, relation: str, images: int) -> int:
    """Returns how many units of a mechanism one subject with `images` images is at most.

    A mechanism that holds for any data set of the site in place of any other ("site", "replace") holds for the set with
    and without one subject as it is. Raises ValueError for a unit that it cannot be said of.
    """
    known = {("image", "add_remove"): images, ("subject", "add_remove"): 1, ("site", "replace"): 1}
    if (unit, relation) not in known:
        raise ValueError(f"how {relation} of one {unit} bounds what one subject more or less changes is not known")
    return known[unit, relation]


@lru_cache(maxsize=4096)
def divergence(noise: float, rate: float, group: int = 1) -> np.ndarray:
    """Returns the Rényi divergences at ORDERS of one step of DP-SGD, for `group` images more or less.

    Each image is in the batch by itself with probability `rate` and moves the sum by at most 1. So the step is no worse
    than telling N(0, noise^2) from N(j, noise^2), j binomial (Ganesh 2024, arXiv:2401.10294), in the worse
    of both directions. With one image that is Opacus' number, and with a rate of 1 noise / `group` is exact. Of all
    images coming together with probability 1 - (1 - rate)^group it is bounded anyway (the divergence is convex and
    grows with j), which serves where the integral would need too fine a grid.
    """
    if group == 1:
        return of_one(noise, rate)
    together = of_one(noise / group, -math.expm1(group * math.log1p(-rate)) if rate < 1 else 1.0)
    if rate == 1:
        return together
    return np.minimum(together, [_mixture(noise, rate, group, order) for order in ORDERS])


def _mixture(noise: float, rate: float, group: int, order: float) -> float:
    """Returns the larger of D(P || Q) and D(Q || P) of this order, P = sum of binomial(j) N(j, noise^2), Q = N(0, ...).

    The integrand is smooth and falls off like a Gaussian, for which the sum over an even grid is exact to rounding.
    """
    end = order * group + WIDTH * noise  # its outermost peak and what is around it
    points = math.ceil(end / min(noise, 3 * noise**2) * PER_DEVIATION)  # its poles are pi noise^2 off the real line
    if points > FINEST / 2:
        return math.inf
    x = np.linspace(-end, end, 2 * points + 1)
    j, spread = np.arange(group + 1)[:, None], 2 * noise**2
    ratio = logsumexp(binom.logpmf(j, group, rate) + (2 * j * x - j**2) / spread, axis=0)
    of_q = -(x**2) / spread + math.log((x[1] - x[0]) / (noise * math.sqrt(2 * math.pi)))
    found = max(logsumexp(of_q + power * ratio) for power in (order, 1 - order)) / (order - 1)
    return max(float(found), 0.0)


def rounded_up(images: int) -> int:
    """Returns the largest number of images of one subject, rounded up to a power of 2.

    What is computed from it leaves the site, and the exact number is one of a single subject.
    """
    return 1 << (images - 1).bit_length()
