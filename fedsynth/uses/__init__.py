"""Downstream uses: what the synthetic set is for, and how well a network trained on some set does it on real test images.

A new use is one file here and one block of params.yaml under `score.uses`. The constructor may ask by name for `images` and `masks`
(numbers of channels), `labels` (number of classes), `size` (*S).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Use(ABC):
    headline: str  # the metric of score() that the table of worth is about

    @abstractmethod
    def network(self, seed: int) -> nn.Module:
        """An untrained network; the same seed gives the same weights."""

    @abstractmethod
    def fit(self, images: Tensor, masks: Tensor, y: Tensor, seed: int) -> nn.Module:
        """Train on images (N, I, *S) and masks (N, M, *S) in [-1, 1], labels y (N,); the budget of steps does not depend on N."""

    @abstractmethod
    def score(self, net: nn.Module, images: Tensor, masks: Tensor, y: Tensor) -> dict[str, float]:
        """Metrics by name, and "n": how many images each rests on. NaN for a metric that cannot be computed on these images."""


def state_of(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu() for name, value in net.state_dict().items()}
