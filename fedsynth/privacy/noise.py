"""Opacus' optimiser and accountants as used for DP-SGD, and the noise multiplier for a given budget."""

from __future__ import annotations

import math
import secrets
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis import rdp
from opacus.optimizers import DPOptimizer
from torch import Tensor
from torch.optim import Optimizer

from fedsynth.privacy.errors import PrivacyError

# more than Opacus' defaults, which helps for a small epsilon
ORDERS = [*RDPAccountant.DEFAULT_ALPHAS, 72, 96, 128, 192, 256, 512]
ACCOUNTANTS = ("rdp", "prv")
MOST_NOISE = 2.0**20  # the largest noise multiplier that is tried
GRID = 100  # above this epsilon, PRV needs a grid of too many points, and the bound is meaningless
Step = tuple[float, float, int]  # noise multiplier, sampling rate, number of steps


class NoisyOptimizer(DPOptimizer):
    """Opacus' clipping and scaling, with noise from numpy's `random`.

    The seed of a torch.Generator on the CPU has only 2^32 effective values, which could be tried out. A GPU's (Philox)
    has 2^64: there the noise is the device's, which is seeded anew by the operating system at each step.
    """

    def __init__(self, optimizer: Optimizer, max_grad_norm: float, expected: float, random: np.random.Generator):
        super().__init__(optimizer, noise_multiplier=0.0, max_grad_norm=max_grad_norm, expected_batch_size=expected)
        self.random = random

    def add_noise(self) -> None:
        deviation = self.noise_multiplier * self.max_grad_norm
        own = seeded(self.params[0].device)
        for p in self.params:
            noise = self._drawn(p.shape) if own is None else torch.randn(p.shape, generator=own, device=own.device)
            p.grad = (p.summed_grad + deviation * noise.to(p.summed_grad)).view_as(p)

    def _drawn(self, shape: torch.Size) -> Tensor:
        return torch.from_numpy(np.asarray(self.random.standard_normal(shape, dtype=np.float32)))


def seeded(device: torch.device) -> torch.Generator | None:
    """Returns the device's own generator with a new seed of 64 bits; None where its seed could be tried out."""
    return torch.Generator(device).manual_seed(secrets.randbits(64)) if device.type == "cuda" else None


class Spending:
    """The steps taken so far and the epsilon that they amount to.

    `accountant` "rdp": Rényi divergences, Mironov et al. 2019, arXiv:1908.10530. "prv": the upper bound from the
    numerically composed privacy loss distribution, Gopi et al. 2021, arXiv:2106.02848. Both bound the same loss, so
    "prv" uses the smaller of the two bounds; it is that of "rdp" where the numerical error of "prv" (0.01) matters,
    where "prv" gives no bound, or where epsilon is above 100.
    """

    def __init__(self, history: Sequence[Sequence[Any]] = (), accountant: str = "rdp"):
        self.history: list[Step] = [(float(noise), float(rate), int(steps)) for noise, rate, steps in history]
        self.unwritten: list[Step] = []  # what was added and is in no account yet
        self.accountant = accountant

    def add(self, noise: float, rate: float, steps: int = 1) -> None:
        """Count steps; consecutive steps with equal noise and rate are merged into one entry."""
        for steps_of in (self.history, self.unwritten):
            before = steps_of.pop()[2] if steps_of and steps_of[-1][:2] == (noise, rate) else 0
            steps_of.append((noise, rate, before + steps))

    def epsilon(self, delta: float) -> float:
        bound = _rdp(self.history, delta)
        return (
            min(bound, _prv(_merged(self.history), delta)) if self.accountant == "prv" and 0 < bound < GRID else bound
        )

    def allows(self, noise: float, rate: float, steps: int, epsilon: float, delta: float) -> bool:
        """Whether `steps` more steps stay within epsilon.

        "prv" is computed only if "rdp" does not decide: it is never twice as tight.
        """
        more = [*self.history, (noise, rate, steps)]
        bound = _rdp(more, delta)
        if bound <= epsilon or self.accountant == "rdp" or bound > min(2 * epsilon + 1, GRID):
            return bound <= epsilon
        return _prv(_merged(more), delta) <= epsilon


def _merged(history: list[Step]) -> tuple[Step, ...]:
    """Merge entries with equal noise and rate: their order does not matter, and each kind is one convolution."""
    kinds: dict[tuple[float, float], int] = {}
    for noise, rate, steps in history:
        kinds[noise, rate] = kinds.get((noise, rate), 0) + steps
    return tuple((noise, rate, steps) for (noise, rate), steps in kinds.items() if steps)


def _rdp(history: list[Step], delta: float) -> float:
    """Epsilon as RDPAccountant.get_epsilon computes it."""
    return bound(np.sum([steps * divergence(noise, rate) for noise, rate, steps in history], 0), delta)


def bound(divergence: np.ndarray, delta: float) -> float:
    """Epsilon at `delta` from the Rényi divergences at ORDERS; 0 if nothing was done."""
    if not np.any(divergence):
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # another order might give a smaller epsilon, but this one is valid
        return float(rdp.get_privacy_spent(orders=ORDERS, rdp=divergence, delta=delta)[0])


@lru_cache(maxsize=256)
def _prv(history: tuple[Step, ...], delta: float) -> float:
    """Epsilon by PRVAccountant.get_epsilon, infinite if it finds no bound."""
    accountant = PRVAccountant()
    accountant.history = list(history)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # log(1 - rate) at a rate of 1
            found = float(accountant.get_epsilon(delta))
    except (RuntimeError, ValueError):
        return math.inf
    return found if math.isfinite(found) else math.inf


@lru_cache(maxsize=256)
def divergence(noise: float, rate: float) -> np.ndarray:
    """RDP of one step at each of ORDERS; cached because it is slow, and additive over equal steps."""
    return np.asarray(rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=ORDERS))


def fitting(spending: Spending, rate: float, steps: int, epsilon: float, delta: float) -> float:
    """Returns the smallest noise multiplier (to 1 in 1000) with which `steps` more steps stay within epsilon.

    Like opacus.accountants.utils.get_noise_multiplier, which does not consider earlier steps. Raises PrivacyError if no
    noise is enough.
    """
    low, high = 0.0, 1.0 if spending.epsilon(delta) < epsilon else math.inf
    while high < math.inf and not spending.allows(high, rate, steps, epsilon, delta):
        low, high = high, 2 * high if high < 1e6 else math.inf
    if high == math.inf:
        raise PrivacyError(f"epsilon {epsilon:g} at delta {delta:g} is spent, or too small for any noise")
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if spending.allows(middle, rate, steps, epsilon, delta) else (middle, high)
    return high


def possible(epsilon: float, delta: float, accountant: str) -> None:
    """Raises PrivacyError if epsilon is too small for any noise, even for a single step."""
    least = Spending([(MOST_NOISE, 1.0, 1)], accountant).epsilon(delta)
    if epsilon < least:
        raise PrivacyError(
            f"epsilon {epsilon:g} at delta {delta:g} is too small for any noise; the accountant {accountant!r} allows"
            f" {1.1 * least:.2g} and more"
        )


def kept(noise: float, spending: Spending, rate: float, steps: int, epsilon: float, delta: float) -> float:
    """Returns the same noise multiplier if `steps` more steps stay within epsilon with it, else a newly fitted one.

    A multiplier of 0 is always replaced.
    """
    if noise and spending.allows(noise, rate, steps, epsilon, delta):
        return noise
    return fitting(spending, rate, steps, epsilon, delta)


def positive(name: str, value: Any, example: str) -> float:
    """Returns the value as a float. Raises PrivacyError if it is missing or not a finite number above 0."""
    if value is None:
        raise PrivacyError(f"{name} is missing, and nothing is private without: {example}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise PrivacyError(f"{name} must be a number above 0 and finite ({example}), not {value!r}")
    return float(value)


def probability(delta: float | None) -> float:
    found = positive("delta", delta, "far below 1 / the number of images, 1e-5 for one")
    if found >= 1:
        raise PrivacyError(f"delta is a probability, above 0 and below 1, not {found}")
    return found


def one_of(name: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise PrivacyError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    return value
