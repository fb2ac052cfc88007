"""FedOpt: a server optimiser applied to the mean update.

Reddi et al. 2021, "Adaptive Federated Optimization", arXiv:2003.00295, algorithm 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedsynth.algorithms.fedavg import Arrays, FedAvg, Update


class FedOpt(FedAvg):
    """FedAvg with a server optimiser, a class of torch.optim ("SGD", "Adam", "Adagrad").

    SGD with lr 1 and no momentum is FedAvg.
    """

    def __init__(
        self,
        optimizer: str = "SGD",
        lr: float = 1.0,
        momentum: float | None = None,
        betas: tuple[float, float] | None = None,
        eps: float | None = None,
        shared: str | list[str] = "*",
        weighting: str = "images",
        local: list[str] | None = None,
    ):
        super().__init__(shared, weighting, local)
        self.optimizer, self.lr, self.momentum, self.betas, self.eps = optimizer, lr, momentum, betas, eps
        self._server: Any = None

    def aggregate(self, updates: list[Update]) -> Arrays:
        """Returns the optimiser's step for the pseudo-gradient -(mean difference).

        The optimiser's moments are kept until the job ends. An array that no site has changed (of a player that rests
        in this phase) is left alone: the moments would keep moving it.
        """
        import torch  # only this algorithm and FedCAR need torch at the server

        mean = super().aggregate(updates)
        if self._server is None:
            options = {"momentum": self.momentum, "betas": self.betas, "eps": self.eps}
            points = {n: torch.zeros(d.shape) for n, d in mean.items()}
            make = getattr(torch.optim, self.optimizer)
            self._server = (
                points,
                make(points.values(), lr=self.lr, **{k: v for k, v in options.items() if v is not None}),
            )
        points, optimizer = self._server
        before = {n: p.clone() for n, p in points.items()}
        for name, point in points.items():
            moved = torch.from_numpy(np.ascontiguousarray(mean[name])).reshape(point.shape)
            point.grad = -moved if moved.any() else None
        optimizer.step()
        # local parameters arrive once, in the last round, and are used as they are
        return mean | {n: (p - before[n]).numpy() for n, p in points.items()}
