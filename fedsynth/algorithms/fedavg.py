"""FedAvg: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data", arXiv:1602.05629, algorithm 1.

Also the contract and the neutral element of the others: they change a hook each.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Arrays = dict[str, np.ndarray]
Update = tuple[str, float, Arrays]  # site, weight, difference to what the site received


class FedAvg:
    """`shared`: which parameters travel: "*" for all, or a pattern of their names ("generator.*"); the others stay at the site."""

    def __init__(self, shared: str = "*"):
        self.shared = shared

    # at the site

    def parameters(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """The parameters that travel, by name. Buffers never do: averaging a counter or a mask means nothing."""
        chosen = {name: p for name, p in model.named_parameters() if fnmatchcase(name, self.shared)}
        if not chosen:
            raise ValueError(f"no parameter of {type(model).__name__} matches shared={self.shared!r}")
        return chosen

    def begin(self, model: nn.Module, incoming: dict[str, Tensor]) -> None:
        """Take over the global parameters at the start of a round."""
        mine = self.parameters(model)
        if missing := set(mine) - set(incoming):
            raise ValueError(
                f"the server sent no {sorted(missing)[:3]} … ({len(missing)} of {len(mine)} parameters); are both sides of one version?"
            )
        with torch.no_grad():
            for name, parameter in mine.items():
                parameter.copy_(incoming[name].reshape(parameter.shape))

    def penalty(self, model: nn.Module, player: nn.Module) -> Tensor | float:
        """Added to the player's loss."""
        return 0.0

    def after_step(self, model: nn.Module, player: nn.Module, lr: float) -> None:
        """After each optimiser step of a player."""

    def end(self, model: nn.Module, incoming: dict[str, Tensor]) -> dict[str, Tensor]:
        """The difference that goes to the server: mine minus received, never weights."""
        return {name: p.detach() - incoming[name].reshape(p.shape).to(p) for name, p in self.parameters(model).items()}

    def state(self) -> dict[str, Any]:
        """What must outlive a round at the site (tensors and plain values)."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""

    # at the server

    def prepare(self, initial: Arrays) -> Arrays:
        """What the first round sends: the initial parameters and whatever the algorithm carries beside them."""
        return initial

    def aggregate(self, updates: list[Update]) -> Arrays:
        """The change of the global parameters: sum of n_k / n times the difference of site k (algorithm 1, last line).

        Sites are added in the order of their names, in float64, so that the same updates give the same bits.
        """
        return weighted_mean(updates)


def weighted_mean(updates: list[Update]) -> Arrays:
    updates = sorted(updates, key=lambda u: u[0])
    total = sum(weight for _, weight, _ in updates)
    names = updates[0][2].keys()
    return {n: (np.sum([w * d[n].astype(np.float64) for _, w, d in updates], 0) / total).astype(updates[0][2][n].dtype) for n in names}
