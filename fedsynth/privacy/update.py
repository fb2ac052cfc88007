"""Differential privacy of a site's update: the difference is clipped and gets noise at the site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.optim import Optimizer

from fedsynth.families import Family
from fedsynth.params import Training
from fedsynth.privacy import Mechanism, PrivacyError
from fedsynth.privacy.noise import ACCOUNTANTS, Spending, Step, fitting, kept, one_of, positive, possible, probability

Arrays = dict[str, np.ndarray]


class UpdateDP(Mechanism):
    """DP-FedAvg with the noise added at the site, so that no server needs to be trusted.

    McMahan et al. 2018, arXiv:1710.06963; Geyer et al. 2017, arXiv:1712.07557. The unit is the "site": replacing one
    site's whole data set by *any* other. So the sensitivity of a clipped difference is twice `clip`, and the noise in
    each number has the standard deviation noise multiplier x 2 `clip`. (The guarantee for adding or removing a site, as
    in the papers, follows from it.) `clip` bounds the L2 norm of everything that leaves, all parameters and the
    algorithm's additional arrays together. Each round is one Gaussian mechanism; the noise keeps all planned rounds
    within `epsilon` at `delta`, by Opacus' `accountant` without subsampling, because a site takes part in every round.

    Training steps and their randomness, from the seed, are those of plain training: the guarantee rests on the noise
    alone, which uses the operating system's randomness. No loss leaves the site. Raises PrivacyError for invalid
    arguments.
    """

    unit, relation, at_steps = "site", "replace", False

    def __init__(
        self, epsilon: float | None = None, delta: float = 1e-5, clip: float | None = None, accountant: str = "rdp"
    ):
        self.epsilon = positive("epsilon", epsilon, "args: {epsilon: 8, clip: 0.1}, and less for more privacy")
        self.delta = probability(delta)
        self.clip = positive("clip", clip, "the norm to which a difference is shortened, about that of a common one")
        self.accountant = one_of("accountant", accountant, ACCOUNTANTS)
        self.noise = 0.0  # noise multiplier sigma; not fitted yet
        self.spending = Spending(accountant=accountant)

    def check(self, family: Family) -> None:
        """Any family is supported: everything that leaves is clipped."""
        possible(self.epsilon, self.delta, self.accountant)

    def protect(self, family: Family, optimizers: dict[str, Optimizer], training: Training, n: int, steps: int,
                subjects: Tensor | None = None, rate: float | None = None) -> None:  # fmt: skip
        self.rounds = training.rounds
        self.random = np.random.default_rng()  # seeded by the operating system

    def plan(self, training: Training, n: int, number: int = 0, spent: Sequence[Step] = ()) -> Step:
        rounds = max(training.rounds - number, 1)
        return fitting(Spending(spent, self.accountant), 1.0, rounds, self.epsilon, self.delta), 1.0, rounds

    def begin(self, number: int) -> None:
        """Keep the noise if the remaining rounds fit the budget with it; refit it if a round is repeated.

        Raises PrivacyError for a round beyond the planned ones.
        """
        if number >= self.rounds:
            raise PrivacyError(
                f"round {number + 1} is none of the {self.rounds} that epsilon {self.epsilon:g} was planned for"
            )
        self.noise = kept(self.noise, self.spending, 1.0, self.rounds - number, self.epsilon, self.delta)

    def release(self, difference: Arrays) -> Arrays:
        """Clip the L2 norm of all arrays together to `clip` and add noise.

        Non-finite values become 0: a NaN would be visible through any noise.
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
        """Raises PrivacyError if no state was kept: how often this site took part in the earlier rounds is unknown."""
        if state is None:
            raise PrivacyError(
                f"what this site has spent before round {number + 1} is not known: nothing is kept of this training in"
                " its state folder. Start the training anew, or go on without this site"
            )
        self.noise, self.spending = state["noise"], Spending(state["history"], self.accountant)
