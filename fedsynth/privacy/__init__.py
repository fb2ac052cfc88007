"""Mechanisms of privacy. Each wraps the steps of the one loop (fedsynth/training/trainer.py) and says what has been
spent.

A new mechanism is one file here and `models.<name>.privacy` in params.yaml. Its constructor checks the budget and is
called at the centre too, before a job starts; all that sees images happens at the site, after `protect`.
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
    """`epsilon` and `delta` are the most that one training may spend, for one `unit` more or less in the training
    images of a site.

    A mechanism protects each step (`at_steps`: `batches` and `gradient` take the place of the loop's own) or what
    leaves after a round (`release`). In either case no loss leaves but those that `gradient` lets out.
    """

    epsilon: float
    delta: float
    unit: str
    noise: float  # multiplier; 0 while none is fitted
    spending: Spending
    at_steps = True

    @abstractmethod
    def check(self, family: Family) -> None:
        """Raise PrivacyError or UserError where the mechanism cannot train this family. Asked at the centre, before a
        job starts.
        """

    @abstractmethod
    def protect(self, family: Family, optimizers: dict[str, Optimizer], training: Training, n: int, steps: int,
                subjects: Tensor | None = None) -> None:  # fmt: skip
        """Before the first round in a process: the family on its device, the players' optimisers, n images, `steps` in
        each round.

        `subjects` (n,) are integers, the same for all images of one person; None where nobody knows.
        """

    @abstractmethod
    def begin(self, number: int) -> None:
        """Round `number` (from 0) begins. Raises PrivacyError where the budget is spent."""

    def batches(self, steps: int) -> Iterator[Tensor]:
        """For each step the places of its images, (B,) of 0 to n - 1; B may be 0.
        What the step spends is counted here.
        """
        raise NotImplementedError

    def gradient(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> float | None:
        """Leave the player's private gradient in its parameters' `grad`. Returns its loss where that may leave the
        site, else None.
        """
        raise NotImplementedError

    def release(self, difference: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What leaves in place of a round's difference and of all that the algorithm sends beside it; counted before it
        leaves.
        """
        return difference

    def spent(self) -> float:
        """Epsilon of this training so far."""
        return self.spending.epsilon(self.delta)

    def state(self) -> dict[str, Any]:
        """What must outlive a round at the site (tensors and plain values)."""
        return {"noise": self.noise, "history": self.spending.history}

    @abstractmethod
    def load_state(self, state: dict[str, Any] | None, number: int) -> None:
        """Take back what `state` gave before round `number`; None where nothing was kept."""
