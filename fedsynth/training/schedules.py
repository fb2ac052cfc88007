"""Weight averaging (EMA), learning-rate schedule and mirroring, used by both training loops."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fedsynth.params import Training


class Averaged(AveragedModel):
    """The averaged weights (EMA) of a model, on its device.

    Torch's own steps send the number of the step to the device and ask for it there, which waits for all work before.
    """

    def __init__(self, model: nn.Module, ema: float):
        super().__init__(model)
        self.update = averaging(ema)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        own: list[Tensor] = list(self.module.parameters())
        current: list[Tensor] = list(model.parameters())
        if self.n_averaged == 0:
            torch._foreach_copy_(own, current)
        else:
            self.update(own, current, self.n_averaged)
        for kept, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)
        self.n_averaged += 1


def averaging(ema: float) -> Callable[[Any, Any, Any], None]:
    """Returns the EMA update with decay min(`ema`, (1 + n) / (10 + n)) at step n.

    This is the schedule of TensorFlow's ExponentialMovingAverage. A small site takes about a hundred steps in a whole
    training: with a constant decay of 0.995, half of the average that it sends in the last round would be the untrained
    weights.
    """

    def update(average: Any, current: Any, n: Any) -> None:
        get_ema_multi_avg_fn(min(ema, (1 + int(n)) / (10 + int(n))))(average, current, n)

    return update


def rates(training: Training, players: Collection[str]) -> dict[str, float]:
    """Returns each player's learning rate. Raises ValueError if `training.lr` does not name exactly the players."""
    found = training.lr if isinstance(training.lr, dict) else dict.fromkeys(players, training.lr)
    if set(found) != set(players):
        raise ValueError(f"training.lr names {sorted(found)}, the players are {sorted(players)}")
    return found


def decay(training: Training, progress: float) -> float:
    """Returns the factor of the learning rate after `progress` (0 to 1) of the training: cosine from 1 to `lr_end`."""
    end = training.lr_end
    return end + (1 - end) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def mirror(x: Tensor, axes: list[int], generator: torch.Generator) -> Tensor:
    """Mirror each image of x (B, C, *S), in place, along each of the spatial `axes` with probability 1/2."""
    for axis in axes:
        mirrored = torch.rand(len(x), generator=generator) < 0.5
        x[mirrored] = x[mirrored].flip(axis + 2)
    return x
