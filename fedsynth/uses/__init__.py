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
    metrics: tuple[str, ...]  # all names that score() may return: no other leaves a hospital

    @abstractmethod
    def network(self, seed: int) -> nn.Module:
        """An untrained network; the same seed gives the same weights."""

    @abstractmethod
    def fit(self, images: Tensor, masks: Tensor, y: Tensor, seed: int, weights: Tensor | None = None) -> nn.Module:
        """Train on images (N, I, *S) and masks (N, M, *S) in [-1, 1], labels y (N,); the budget of steps does not depend on N.

        `weights` (N,) >= 0: how often an image is drawn, beside the others of its class. Raises ValueError where there is no image.
        """

    @abstractmethod
    def score(self, net: nn.Module, images: Tensor, masks: Tensor, y: Tensor) -> tuple[dict[str, float], dict[str, int]]:
        """Metrics by name, and how many images each rests on. NaN for a metric that cannot be computed on these images."""


@torch.no_grad()
def predict(net: nn.Module, images: Tensor, channels: int, batch: int = 64) -> Tensor:
    """What `net` says of images (N, I, *S), on the CPU: (N, channels, ...), also where N is 0."""
    device = next(net.parameters()).device
    net.eval()
    parts = [net(part.to(device)).cpu() for part in images.split(batch) if len(part)]
    return torch.cat(parts) if parts else images.new_zeros((0, channels, *images.shape[2:]))
