"""Opacus' optimiser and accounting as DP-SGD uses them: noise that nobody can foresee, and a plan that keeps to the budget."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from opacus.accountants import RDPAccountant
from opacus.accountants.analysis import rdp
from opacus.optimizers import DPOptimizer
from torch.optim import Optimizer

from fedsynth.privacy import PrivacyError

ORDERS = [*RDPAccountant.DEFAULT_ALPHAS, 72, 96, 128, 192, 256, 512]  # more than Opacus has: of use where epsilon is small
Step = tuple[float, float, int]  # noise multiplier, sampling rate, number of steps


class NoisyOptimizer(DPOptimizer):
    """Opacus' clipping and scaling, with noise from `random`: a torch.Generator on the CPU has no more than 2^32 beginnings to try out."""

    def __init__(self, optimizer: Optimizer, max_grad_norm: float, expected: float, random: np.random.Generator):
        super().__init__(optimizer, noise_multiplier=0.0, max_grad_norm=max_grad_norm, expected_batch_size=expected)
        self.random = random

    def add_noise(self) -> None:
        deviation = self.noise_multiplier * self.max_grad_norm
        for p in self.params:
            noise = torch.from_numpy(np.asarray(self.random.standard_normal(p.shape, dtype=np.float32)))
            p.grad = (p.summed_grad + deviation * noise.to(p.summed_grad)).view_as(p)


class Spending:
    """The steps that were taken, and the epsilon that they amount to: Mironov et al. 2019, arXiv:1908.10530."""

    def __init__(self, history: Sequence[Sequence[Any]] = ()):
        self.history: list[Step] = [(float(noise), float(rate), int(steps)) for noise, rate, steps in history]

    def add(self, noise: float, rate: float, steps: int = 1) -> None:
        """Count steps; like ones are one entry."""
        if self.history and self.history[-1][:2] == (noise, rate):
            steps += self.history.pop()[2]
        self.history.append((noise, rate, steps))

    def epsilon(self, delta: float) -> float:
        return _epsilon(self.history, delta)

    def after(self, noise: float, rate: float, steps: int, delta: float) -> float:
        """Epsilon once so many more steps are taken."""
        return _epsilon([*self.history, (noise, rate, steps)], delta)


def _epsilon(history: list[Step], delta: float) -> float:
    """As RDPAccountant.get_epsilon."""
    if not history:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that another order might give a smaller epsilon: this one holds all the same
        divergence = np.sum([steps * _divergence(noise, rate) for noise, rate, steps in history], 0)
        return float(rdp.get_privacy_spent(orders=ORDERS, rdp=divergence, delta=delta)[0])


@lru_cache(maxsize=256)
def _divergence(noise: float, rate: float) -> np.ndarray:
    """RDP of one step at each of ORDERS; it takes longest, and steps of a kind add up."""
    return np.asarray(rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=ORDERS))


def fitting(spending: Spending, rate: float, steps: int, epsilon: float, delta: float) -> float:
    """The least noise multiplier (to 1 in 1000) with which so many more steps keep within epsilon.

    As opacus.accountants.utils.get_noise_multiplier, which knows no steps taken before. Raises PrivacyError where no noise is enough.
    """
    low, high = 0.0, 1.0
    while spending.after(high, rate, steps, delta) > epsilon:
        low, high = high, 2 * high
        if high > 1e6:
            raise PrivacyError(f"epsilon {epsilon:g} at delta {delta:g} is spent, or too small for any noise")
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if spending.after(middle, rate, steps, delta) <= epsilon else (middle, high)
    return high
