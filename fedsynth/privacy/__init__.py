"""Privacy mechanisms: each protects the steps or the result of the training loop and accounts for the budget spent.

The loop is fedsynth/training/trainer.py. A new mechanism is one file in this folder and `models.<name>.privacy` in
params.yaml. Its constructor checks the budget and is also called at the centre, before a job starts; everything that
uses images happens at the site, after `protect`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from fedsynth.privacy.errors import PrivacyError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from torch.optim import Optimizer

    from fedsynth.families import Family
    from fedsynth.params import Training
    from fedsynth.privacy.noise import Spending, Step

__all__ = ["RELATIONS", "Account", "Mechanism", "PrivacyError"]

# Which two data sets of a site an epsilon compares, in words. All that a site has spent is told for one subject more or
# less; fedsynth/privacy/subject.py converts.
RELATIONS = {"add_remove": "one {unit} more or less", "replace": "one {unit} in place of any other"}


class Account(Protocol):
    """Where a site writes what one training has spent (fedsynth/hospital/ledger)."""

    def spent(self, number: int) -> list[Step] | None:
        """Returns what this training has spent before round `number`; None if nothing was ever written at this site."""

    def check(self, kept: Sequence[Sequence[Any]]) -> None:
        """Raises PrivacyError if a checkpoint of this training has spent more than was written."""

    def write(self, mechanism: Mechanism, steps: Sequence[Step], number: int, losses: bool) -> None:
        """Write the steps whose result is about to leave in round `number`, on disk when this returns."""

    def epsilon(self, mechanism: Mechanism) -> float:
        """Returns what all trainings at this site have spent, for one subject, at the mechanism's delta."""


class Mechanism(ABC):
    """A differential privacy mechanism for the training at one site.

    `epsilon` and `delta` are the budget of one training, for one `unit` of a site's training images added or removed,
    or replaced (`relation`, a key of RELATIONS). A mechanism protects either each step (`at_steps`: `batches` and
    `gradient` replace those of the loop) or what leaves after a round (`release`). In both cases no loss leaves the
    site except those that `gradient` returns.
    """

    epsilon: float
    delta: float
    unit: str
    relation: str
    accountant: str
    noise: float  # noise multiplier; 0 until it is fitted
    spending: Spending
    account: Account | None = None  # of this training at this site
    at_steps = True

    @abstractmethod
    def check(self, family: Family) -> None:
        """Raise PrivacyError or UserError if the mechanism cannot train this family; called at the centre."""

    @abstractmethod
    def protect(self, family: Family, optimizers: dict[str, Optimizer], training: Training, n: int, steps: int,
                subjects: Tensor | None = None, rate: float | None = None) -> None:  # fmt: skip
        """Set up the mechanism before the first round in a process.

        Args:
            family: on its device.
            optimizers: by player.
            n: number of training images.
            steps: steps per round.
            subjects: (n,) integers, equal for images of the same person; None if unknown.
            rate: probability with which a unit is in the batch of a step; default: `training.batch` / n. Epsilon
                depends on it and leaves the site, so the site chooses it by a number of images that the centre knows.
        """

    @abstractmethod
    def plan(self, training: Training, n: int, number: int = 0, spent: Sequence[Step] = ()) -> Step:
        """Returns noise, sampling rate and steps from round `number` on, for `n` training images; needs no `protect`.

        `spent`: what the training has spent before. Raises PrivacyError if the budget is spent.
        """

    @abstractmethod
    def begin(self, number: int) -> None:
        """Start round `number` (from 0). Raises PrivacyError if the budget is spent."""

    def batches(self, steps: int) -> Iterator[Tensor]:
        """Yield for each step the indices of its images, (B,) of 0 to n - 1; B may be 0.

        The budget that the step spends is counted here.
        """
        raise NotImplementedError

    def gradient(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor | None:
        """Store the player's private gradient in its parameters' `grad`.

        Returns the loss if it may leave the site, else None.
        """
        raise NotImplementedError

    def release(self, difference: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns what leaves the site instead of a round's difference and the algorithm's additional arrays.

        The budget is counted before it leaves.
        """
        return difference

    def spent(self) -> float:
        """Returns the epsilon that this training has spent so far."""
        return self.spending.epsilon(self.delta)

    def state(self) -> dict[str, Any]:
        """Returns what must be kept between rounds at the site (tensors and plain values)."""
        return {"noise": self.noise, "history": self.spending.history}

    def settle(self, number: int, losses: bool) -> None:
        """Write what was spent since the last time into the account, before the result leaves; `losses`: so do losses.

        Nothing may leave if this raises.
        """
        if self.account is not None:
            self.account.write(self, self.spending.unwritten, number, losses)
        self.spending.unwritten = []

    def total(self) -> float | None:
        """Returns what all trainings at this site have spent, for one subject; None without an account."""
        return None if self.account is None else self.account.epsilon(self)

    def resume(self, state: dict[str, Any] | None, number: int) -> None:
        """Know what was spent before round `number`, the first in this process; `state` is as for `load_state`.

        What was spent is read from the account. The checkpoint, which a training that begins anew does not read and
        that may be lost, says it only where there is no account, or one in which nothing was ever written.
        """
        from fedsynth.privacy.noise import Spending

        kept = state or {"noise": 0.0, "history": []}
        spent = None if self.account is None else self.account.spent(number)
        if self.account is not None:
            self.account.check(kept["history"])
        if spent is not None:
            self.noise = kept["noise"] if number else 0.0
            self.spending = Spending(spent, self.accountant)
        elif number:
            self.load_state(state, number)

    @abstractmethod
    def load_state(self, state: dict[str, Any] | None, number: int) -> None:
        """Restore what `state` returned, before round `number`; None if no state was kept."""
