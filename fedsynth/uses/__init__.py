"""Downstream uses: networks trained on an image set and tested on real images.

A new use is one file in this folder and one block of params.yaml under `score.uses`. The constructor may take, by name,
`images` and `masks` (numbers of channels), `labels` (number of classes), `label_names`, `size` (*S).

Legend: N images · B batch · I image channels · M mask channels · K classes · *S spatial size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedsynth.data.stored import PART, OnDisk, at_once
from fedsynth.training.supervised import Budget, Training

# per-image results, arrays of length N, from which metrics are computed; they never leave the machine
Table = dict[str, np.ndarray]


class Use(ABC):
    """A downstream task: a network, its loss and its metrics."""

    headline: str  # the metric of the table of worth
    # all names that `summarise` may return; no other may leave a hospital. "<metric>.<label>" is for one class
    metrics: tuple[str, ...]
    lower: frozenset[str] = frozenset()  # metrics where lower is better
    budget: Budget  # the same for every row of the table

    def within(self, metric: str) -> tuple[float, float]:
        """Return the range of a metric: a site's answer beyond it is refused. By default it is a share."""
        return 0.0, 1.0

    def chance(self, n: Mapping[str, int | str | None]) -> float:
        """Return what a network that has learned nothing reaches in the headline metric; by default 0.

        Shares of worth are of what lies above it. `n`: the number of images behind each metric, as in `summarise`, or
        a word where it is withheld.
        """
        return 0.0

    @abstractmethod
    def network(self, seed: int) -> nn.Module:
        """Return an untrained network; the same seed gives the same weights."""

    @abstractmethod
    def loss(self, output: Tensor, masks: Tensor, y: Tensor) -> Tensor:
        """Return a scalar loss of the network's output, the masks (B, M, *S) in [-1, 1] and the labels y (B,)."""

    def usable(self, masks: Tensor) -> Tensor:
        """Return which images (N,) the use can be trained and tested on; by default all.

        `masks` (N, M, *S) are in [-1, 1]; an unknown mask is 0 throughout.
        """
        return torch.ones(len(masks), dtype=torch.bool)

    def all_usable(self, masks: Tensor) -> Tensor:
        """Return `usable` of all, part after part, so that masks on disk (data/stored.py) stay there."""
        return torch.cat([self.usable(part) for part in masks.split(PART)])

    @abstractmethod
    def judge(self, net: nn.Module, images: Tensor, masks: Tensor, y: Tensor) -> Table:
        """Evaluate the network on each image.

        `images` (N, I, *S), `masks` (N, M, *S), `y` (N,). Metrics are computed from the table, so that leaving out
        subjects does not run the network again; it holds `y`, too.
        """

    @abstractmethod
    def summarise(self, table: Table) -> tuple[dict[str, float], dict[str, int]]:
        """Return the metrics by name, and the number of images behind each.

        A metric that cannot be computed on these images is NaN.
        """

    def counted(self, table: Table) -> np.ndarray:
        """Return which images (N,) bool the headline metric rests on; by default all."""
        return np.ones(len(table["y"]), dtype=bool)

    def value(self, table: Table) -> float:
        """Return the headline metric only; leaving out subjects in turn calls this many times."""
        return self.summarise(table)[0][self.headline]

    def training(
        self, net: nn.Module, images: Tensor, masks: Tensor, y: Tensor, seed: int, weights: Tensor | None = None
    ) -> Training:
        """Return a training of `net` that can be taken in steps, on the images that are `usable`.

        `images` (N, I, *S) and `masks` (N, M, *S) in [-1, 1], `y` (N,), `weights` as in `fit`.
        """
        keep = self.all_usable(masks)
        if not keep.all():
            images, masks = (of.where(keep) if isinstance(of, OnDisk) else of[keep] for of in (images, masks))
            y, weights = y[keep], None if weights is None else weights[keep]
        return Training(net, self.loss, images, masks, y, self.budget, seed, weights)

    def fit(self, images: Tensor, masks: Tensor, y: Tensor, seed: int, weights: Tensor | None = None) -> nn.Module:
        """Return a trained network; the number of steps does not depend on N.

        `weights` (N,) >= 0: sampling weights of the images within their class. Raises ValueError if there is no image.
        """
        net = self.network(seed)
        self.training(net, images, masks, y, seed, weights).steps(self.budget.steps)
        return net

    def score(
        self, net: nn.Module, images: Tensor, masks: Tensor, y: Tensor
    ) -> tuple[dict[str, float], dict[str, int]]:
        """Return the metrics of a network on these images, and the number of images behind each."""
        return self.summarise(self.judged(net, images, masks, y))

    def judged(self, net: nn.Module, images: Tensor, masks: Tensor, y: Tensor) -> Table:
        """Return the table of `judge`, part after part, so that images on disk (data/stored.py) stay there."""
        parts = [self.judge(net, *part) for part in zip(*(of.split(PART) for of in (images, masks, y)), strict=True)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def of_kind(networks: dict[str, tuple[Use, nn.Module]], kind: type[Use]) -> tuple[Any, nn.Module] | None:
    """Return the first use of a class with its network; None if there is none."""
    return next(((use, net) for use, net in networks.values() if isinstance(use, kind)), None)


@torch.no_grad()
def predict(net: nn.Module, images: Tensor, channels: int) -> Tensor:
    """Return the output of `net` for images (N, I, *S), on the CPU: (N, `channels`, ...).

    If N is 0, the result is (0, `channels`, *S).
    """
    device = next(net.parameters()).device
    net.eval()
    parts = [net(part.to(device)).cpu() for part in images.split(at_once(images.shape[2:])) if len(part)]
    return torch.cat(parts) if parts else images.new_zeros((0, channels, *images.shape[2:]))
