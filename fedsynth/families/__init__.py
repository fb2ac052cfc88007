"""Kinds of generative model. A family is its players, a loss for each, and a sampler; one loop (fedsynth/train.py) trains them all.

Legend: B batch · C generated channels · G given channels · *S spatial size, (H, W) or (D, H, W) · float32 in [-1, 1].

A new family is one file here and one block of params.yaml. Its constructor may ask by name for what the project knows:
`generated` (C), `given` (G), `labels` (number of classes) and `size` (*S); all else are its own arguments. Constructor arguments
become attributes of the same name. No BatchNorm: running statistics average badly and break SCAFFOLD and DP-SGD.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Family(nn.Module, ABC):
    @abstractmethod
    def players(self) -> dict[str, nn.Module]:
        """The networks that take turns, in the order in which they step; their parameters do not overlap."""

    @abstractmethod
    def loss(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """A scalar for one player to lower. x (B, C, *S) generated channels, y (B,) labels, given (B, G, *S) or None."""

    def private_players(self) -> tuple[str, ...]:
        """The players whose loss looks at real images, at their given channels or at their labels; asked by mechanisms of privacy only.

        The others get zeros for x, labels by chance (of `self.labels`) and None for given.
        """
        return tuple(self.players())

    @abstractmethod
    def sample(self, y: Tensor, given: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Images (B, C, *S) in [-1, 1] for labels y (B,); the same generator state gives the same images."""
