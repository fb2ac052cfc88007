"""FedProx: Li et al. 2020, "Federated Optimization in Heterogeneous Networks", arXiv:1812.06127, equation 2."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedsynth.algorithms.fedavg import FedAvg


class FedProx(FedAvg):
    """FedAvg with the proximal term mu/2 ||w - w_t||^2 in every player's loss, which keeps sites near the global model.

    mu = 0 is FedAvg. Raises ValueError for a negative mu.
    """

    def __init__(self, mu: float = 0.01, shared: str | list[str] = "*", weighting: str = "images",
                 local: list[str] | None = None):  # fmt: skip
        super().__init__(shared, weighting, local)
        if mu < 0:
            raise ValueError(f"mu must be at least 0, not {mu}")
        self.mu = mu

    def begin(self, model: nn.Module, incoming: dict[str, Tensor]) -> None:
        super().begin(model, incoming)
        self._anchor = {p: p.detach().clone() for p in self.common(model).values()}

    def penalty(self, model: nn.Module, player: nn.Module) -> Tensor | float:
        if self.mu == 0:
            return 0.0
        pairs = [(p, self._anchor[p]) for p in player.parameters() if p in self._anchor]
        return self.mu / 2 * torch.stack([(p - anchor).square().sum() for p, anchor in pairs]).sum() if pairs else 0.0
