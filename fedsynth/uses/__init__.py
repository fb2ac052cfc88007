"""Downstream uses: networks trained on a set and tested on real images.

A new use is one file here and one block of params.yaml under `score.uses`. The constructor may ask by name for `images`
and `masks` (numbers of channels), `labels` (number of classes), `label_names`, `size` (*S).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedsynth.training.supervised import Budget, Training

# what each image adds to the metrics: arrays of length N; it never leaves the machine that made it
Table = dict[str, np.ndarray]


class Use(ABC):
    headline: str  # the metric that the table of worth is about
    # all names that `summarise` may return: no other leaves a hospital; "<metric>.<label>" is of one class
    metrics: tuple[str, ...]
    lower: frozenset[str] = frozenset()  # those of which less is better
    budget: Budget  # the same for every row of the table

    @abstractmethod
    def network(self, seed: int) -> nn.Module:
        """An untrained network; the same seed gives the same weights."""

    @abstractmethod
    def loss(self, output: Tensor, masks: Tensor, y: Tensor) -> Tensor:
        """A scalar to lower, of the network's output, masks (B, M, *S) in [-1, 1] and labels y (B,)."""

    @abstractmethod
    def judge(self, net: nn.Module, images: Tensor, masks: Tensor, y: Tensor) -> Table:
        """What each image adds to the metrics. Metrics are of a table, so that a bootstrap need not ask the network
        again.
        """

    @abstractmethod
    def summarise(self, table: Table) -> tuple[dict[str, float], dict[str, int]]:
        """Metrics by name, and how many images each rests on. NaN for a metric that cannot be computed on
        these images.
        """

    def value(self, table: Table) -> float:
        """The headline metric alone: a bootstrap asks for it thousands of times."""
        return self.summarise(table)[0][self.headline]

    def training(
        self, net: nn.Module, images: Tensor, masks: Tensor, y: Tensor, seed: int, weights: Tensor | None = None
    ) -> Training:
        """The training of `net` on images (N, I, *S) and masks (N, M, *S) in [-1, 1], labels y (N,), to be taken in
        steps.
        """
        return Training(net, self.loss, images, masks, y, self.budget, seed, weights)

    def fit(self, images: Tensor, masks: Tensor, y: Tensor, seed: int, weights: Tensor | None = None) -> nn.Module:
        """A trained network; the budget of steps does not depend on N.

        `weights` (N,) >= 0: how often an image is drawn, beside the others of its class. Raises ValueError where there
        is no image.
        """
        net = self.network(seed)
        self.training(net, images, masks, y, seed, weights).steps(self.budget.steps)
        return net

    def score(
        self, net: nn.Module, images: Tensor, masks: Tensor, y: Tensor
    ) -> tuple[dict[str, float], dict[str, int]]:
        """Metrics of a network on these images, and how many images each rests on."""
        return self.summarise(self.judge(net, images, masks, y))


def of_kind(networks: dict[str, tuple[Use, nn.Module]], kind: type[Use]) -> tuple[Any, nn.Module] | None:
    """The first use of a class, with its network; None where there is none."""
    return next(((use, net) for use, net in networks.values() if isinstance(use, kind)), None)


@torch.no_grad()
def predict(net: nn.Module, images: Tensor, channels: int, batch: int = 64) -> Tensor:
    """What `net` says of images (N, I, *S), on the CPU: (N, channels, ...), also where N is 0."""
    device = next(net.parameters()).device
    net.eval()
    parts = [net(part.to(device)).cpu() for part in images.split(batch) if len(part)]
    return torch.cat(parts) if parts else images.new_zeros((0, channels, *images.shape[2:]))
