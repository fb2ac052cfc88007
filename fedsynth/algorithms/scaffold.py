"""SCAFFOLD: Karimireddy et al. 2020, arXiv:1910.06378, algorithm 1, option II.

"Stochastic Controlled Averaging for Federated Learning". The server's control variate c is sent as parameters named
"control:<name>" beside the weights, and its change is returned in the sites' differences, so that filters, aggregation
and checkpoints need no special case.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedsynth.algorithms.fedavg import Arrays, FedAvg, Update

PREFIX = "control:"


class Scaffold(FedAvg):
    """FedAvg with local steps corrected by c - c_i (equation 3).

    It works with any optimiser: the correction is a separate step, lr (c_i - c).
    """

    def __init__(self, shared: str | list[str] = "*", weighting: str = "images", local: list[str] | None = None):
        super().__init__(shared, weighting, local)
        self._mine: dict[str, Tensor] = {}  # c_i

    def begin(self, model: nn.Module, incoming: dict[str, Tensor]) -> None:
        super().begin(model, incoming)
        shared = self.common(model)
        self._names = {p: n for n, p in shared.items()}
        self._server = {n: incoming[PREFIX + n].reshape(p.shape).to(p) for n, p in shared.items()}  # c
        self._mine = {n: self._mine.get(n, torch.zeros_like(p)).to(p) for n, p in shared.items()}
        self._travelled = dict.fromkeys(shared, 0.0)  # sum of the steps' learning rates, K eta_l

    def after_step(self, model: nn.Module, player: nn.Module, lr: float) -> None:
        with torch.no_grad():
            for p in player.parameters():
                if name := self._names.get(p):
                    p.add_(self._mine[name] - self._server[name], alpha=lr)
                    self._travelled[name] += lr

    def end(self, model: nn.Module, incoming: dict[str, Tensor]) -> dict[str, Tensor]:
        difference = super().end(model, incoming)
        for name in self._server:
            if travelled := self._travelled[name]:
                # c_i+ = c_i - c + (x - y_i) / (K eta_l)
                new = self._mine[name] - self._server[name] - difference[name] / travelled
            else:
                new = self._mine[name]
            difference[PREFIX + name] = new - self._mine[name]
            self._mine[name] = new
        return difference

    def state(self) -> dict[str, Any]:
        return {"control": dict(self._mine)}

    def load_state(self, state: dict[str, Any]) -> None:
        self._mine = dict(state.get("control", {}))

    def prepare(self, initial: Arrays) -> Arrays:
        return initial | {PREFIX + n: np.zeros_like(a) for n, a in initial.items() if not self.is_local(n)}

    def aggregate(self, updates: list[Update]) -> Arrays:
        """Average the parameters and the changes of the control variate.

        Both by the number of images, or both equally (`weighting: equal`, algorithm 1, line 17): where the control
        variates count otherwise than the parameters, sites are corrected towards the optimum of another mean of their
        losses. A `validation` score differs from round to round, and the control variates count equally then.
        """
        by_images = self.weighting == "images"
        control = [
            (site, w if by_images else 1.0, {n: a for n, a in d.items() if n.startswith(PREFIX)})
            for site, w, d in updates
        ]
        plain = [(site, w, {n: a for n, a in d.items() if not n.startswith(PREFIX)}) for site, w, d in updates]
        return super().aggregate(plain) | self.combine(control, "control variate")
