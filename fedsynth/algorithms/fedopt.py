"""FedOpt: a server optimiser applied to the mean update.

Reddi et al. 2021, "Adaptive Federated Optimization", arXiv:2003.00295, algorithm 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedsynth.algorithms.fedavg import Arrays, FedAvg, Update


class FedOpt(FedAvg):
    """FedAvg with a server optimiser, a class of torch.optim ("SGD", "Adam", "Adagrad").

    SGD with lr 1 and no momentum is FedAvg, and with a momentum FedAvgM. `lr` must be given for all other optimisers:
    Adam's step is `lr` in every parameter, however small the sites' steps are.

    In the last round of a phase the sites send averaged (EMA) weights, if `training.ema` is set. Their plain mean is
    the phase's result, without a step of the optimiser, which begins anew in the next phase.

    Raises ValueError for an optimiser other than SGD without `lr`.
    """

    def __init__(
        self,
        optimizer: str = "SGD",
        lr: float | None = None,
        momentum: float | None = None,
        betas: tuple[float, float] | None = None,
        eps: float | None = None,
        shared: str | list[str] = "*",
        weighting: str = "images",
        local: list[str] | None = None,
    ):
        super().__init__(shared, weighting, local)
        if lr is None and optimizer != "SGD":
            raise ValueError(
                f"optimizer: {optimizer} needs an lr, since torch's default is for gradients and not for the mean of"
                " the sites' differences; begin with about training.lr (only SGD has a default, lr: 1, which is FedAvg)"
            )
        lr = 1.0 if lr is None else lr
        self.optimizer, self.lr, self.momentum, self.betas, self.eps = optimizer, lr, momentum, betas, eps
        self._server: Any = None

    def aggregate(self, updates: list[Update]) -> Arrays:
        """Returns the optimiser's step for the pseudo-gradient -(mean difference).

        The optimiser's moments are kept until the phase or the job ends. An array that no site has changed (of a
        player that rests in this phase) is left alone: the moments would keep moving it.
        """
        import torch  # only this algorithm and FedCAR need torch at the server

        mean = super().aggregate(updates)
        if self._averaged:
            self._server = None
            return mean
        if self._server is None:
            options = {"momentum": self.momentum, "betas": self.betas, "eps": self.eps}
            points = {n: torch.zeros_like(torch.as_tensor(d)) for n, d in mean.items()}
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
