"""Differential privacy of a site's update: the difference is clipped and noised at the site."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.optim import Optimizer

from fedsynth.families import Family
from fedsynth.params import Training
from fedsynth.privacy import Mechanism, PrivacyError
from fedsynth.privacy.noise import ACCOUNTANTS, Spending, kept, one_of, positive, probability

Arrays = dict[str, np.ndarray]


class UpdateDP(Mechanism):
    """DP-FedAvg (McMahan et al. 2018, arXiv:1710.06963; Geyer et al. 2017, arXiv:1712.07557) with the noise at the
    site: no server is trusted, and none has to be.

    The unit is the "site": one site's whole data set in place of *any* other, so that the sensitivity of a clipped
    difference is twice `clip`, and the noise has the deviation noise multiplier x 2 `clip` in each number. (With or
    without the site, as the papers count, holds all the more.) The norm of `clip` is that of all that leaves, of every
    parameter and of what the algorithm sends beside them. Each round is one Gaussian mechanism; the noise is what keeps
    all rounds of the plan within `epsilon` at `delta`, by Opacus' `accountant` without subsampling: a site is in every
    round.

    The steps are those of plain training and their randomness that of the seed: the guarantee rests on the noise alone,
    which comes from the operating system's randomness. No loss leaves.
    """

    unit, at_steps = "site", False

    def __init__(
        self, epsilon: float | None = None, delta: float = 1e-5, clip: float | None = None, accountant: str = "rdp"
    ):
        self.epsilon = positive("epsilon", epsilon, "args: {epsilon: 8, clip: 0.1}, and less for more privacy")
        self.delta = probability(delta)
        self.clip = positive("clip", clip, "the norm to which a difference is shortened, about that of a common one")
        self.accountant = one_of("accountant", accountant, ACCOUNTANTS)
        self.noise = 0.0  # noise multiplier sigma; none is fitted yet
        self.spending = Spending(accountant=accountant)

    def check(self, family: Family) -> None:
        """Whatever the family is, all that leaves is clipped."""

    def protect(self, family: Family, optimizers: dict[str, Optimizer], training: Training, n: int, steps: int,
                subjects: Tensor | None = None) -> None:  # fmt: skip
        self.rounds = training.rounds
        self.random = np.random.default_rng()  # seeded by the operating system

    def begin(self, number: int) -> None:
        """Keep the noise where the rest of the plan fits the budget; find another where a round is done a
        second time.
        """
        if number >= self.rounds:
            raise PrivacyError(
                f"round {number + 1} is none of the {self.rounds} that epsilon {self.epsilon:g} was planned for"
            )
        self.noise = kept(self.noise, self.spending, 1.0, self.rounds - number, self.epsilon, self.delta)

    def release(self, difference: Arrays) -> Arrays:
        """`clip` in L2 over all arrays together, and noise. What is no finite number becomes 0: a NaN is a mark that no
        noise covers.
        """
        finite = {
            name: np.nan_to_num(a.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0) for name, a in difference.items()
        }
        norm = float(np.sqrt(sum(np.square(a).sum() for a in finite.values())))
        share, deviation = min(1.0, self.clip / max(norm, 1e-300)), 2 * self.clip * self.noise
        self.spending.add(self.noise, 1.0)
        return {
            name: (share * a + deviation * self.random.standard_normal(a.shape)).astype(difference[name].dtype)
            for name, a in finite.items()
        }

    def load_state(self, state: dict[str, Any] | None, number: int) -> None:
        """Raises PrivacyError where nothing was kept: nobody knows whether and how often this site took part in the
        rounds before.
        """
        if state is None:
            raise PrivacyError(
                f"what this site has spent before round {number + 1} is not known: nothing is kept of this training in"
                " its state folder. Start the training anew, or go on without this site"
            )
        self.noise, self.spending = state["noise"], Spending(state["history"], self.accountant)
