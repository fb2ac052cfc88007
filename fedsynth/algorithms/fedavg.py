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


WEIGHTINGS = ("images", "equal")


class FedAvg:
    """`shared`: which parameters travel: "*" for all, a pattern of their names ("generator.*"), or several of which the last that fits
    decides and "!" keeps at the site: ["unet.*", "!unet.down_blocks.*"]. What stays is at the centre as it was in the beginning, so that
    all that the sampler needs must travel.

    `weighting`: a site counts by its number of training "images" (the paper), or as much as every other ("equal").
    Raises ValueError for another weighting.
    """

    def __init__(self, shared: str | list[str] = "*", weighting: str = "images"):
        self.shared, self.weighting = shared, weighting
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, not {weighting!r}")

    # at the site

    def parameters(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """The parameters that travel, by name. Buffers never do: averaging a counter or a mask means nothing."""
        patterns = [self.shared] if isinstance(self.shared, str) else self.shared
        chosen = {name: p for name, p in model.named_parameters() if travels(name, patterns)}
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
        """The change of the global parameters: sum of n_k / n times the difference of site k (algorithm 1, last line), or by `weighting`.

        Sites are added in the order of their names, in float64, so that the same updates give the same bits.
        """
        return weighted_mean([(site, w if self.weighting == "images" else 1.0, d) for site, w, d in updates])


def travels(name: str, patterns: list[str]) -> bool:
    """Whether the last pattern that fits the name does so without a "!"."""
    fitting = [p for p in patterns if fnmatchcase(name, p.removeprefix("!"))]
    return bool(fitting) and not fitting[-1].startswith("!")


def weighted_mean(updates: list[Update]) -> Arrays:
    updates = sorted(updates, key=lambda u: u[0])
    total = sum(weight for _, weight, _ in updates)
    names = updates[0][2].keys()
    return {n: (np.sum([w * d[n].astype(np.float64) for _, w, d in updates], 0) / total).astype(updates[0][2][n].dtype) for n in names}
