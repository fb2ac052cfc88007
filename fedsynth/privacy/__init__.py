"""Privacy mechanisms: each protects the steps or the result of the training loop and accounts for the budget spent.

The loop is fedsynth/training/trainer.py. A new mechanism is one file in this folder and `models.<name>.privacy` in
params.yaml. Its constructor checks the budget and is also called at the centre, before a job starts; everything that
uses images happens at the site, after `protect`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fedsynth.privacy.errors import PrivacyError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from torch.optim import Optimizer

    from fedsynth.families import Family
    from fedsynth.params import Training
    from fedsynth.privacy.noise import Spending

__all__ = ["Mechanism", "PrivacyError"]


class Mechanism(ABC):
    """A differential privacy mechanism for the training at one site.

    `epsilon` and `delta` are the budget of one training, for adding or removing one `unit` of a site's training images.
    A mechanism protects either each step (`at_steps`: `batches` and `gradient` replace those of the loop) or what
    leaves after a round (`release`). In both cases no loss leaves the site except those that `gradient` returns.
    """

    epsilon: float
    delta: float
    unit: str
    noise: float  # noise multiplier; 0 until it is fitted
    spending: Spending
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
    def begin(self, number: int) -> None:
        """Start round `number` (from 0). Raises PrivacyError if the budget is spent."""

    def batches(self, steps: int) -> Iterator[Tensor]:
        """Yield for each step the indices of its images, (B,) of 0 to n - 1; B may be 0.

        The budget that the step spends is counted here.
        """
        raise NotImplementedError

    def gradient(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> float | None:
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

    @abstractmethod
    def load_state(self, state: dict[str, Any] | None, number: int) -> None:
        """Restore what `state` returned, before round `number`; None if no state was kept."""
