"""Network blocks that families share, between images, given channels and latent vectors, in 2-D and 3-D, without
BatchNorm.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import gcd, prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsynth.networks.monai_imports import monai_imports

with monai_imports():
    from monai.networks.blocks import Convolution
    from monai.networks.utils import pixelshuffle, pixelunshuffle


def with_given(x: Tensor, given: Tensor | None, channels: int) -> Tensor:
    """(B, C + G, *S). Raises ValueError where a family made for `channels` given channels gets another number
    of them.
    """
    found = 0 if given is None else given.shape[1]
    if found != channels:
        raise ValueError(
            f"the model was made for {channels} given channels and got {found}; look at image.given in params.yaml"
        )
    return x if given is None else torch.cat([x, given.to(x)], 1)


def one_hot(y: Tensor, labels: int) -> Tensor:
    """(B,) -> (B, labels) of 0 and 1. torch.func cannot take F.one_hot, which looks at the values."""
    return torch.eye(labels, device=y.device)[y]


def fill(x: Tensor, may_lack: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """Images (B, C, *S) whose lacking channels are NaN, filled with -1, and 1 where a value is known, else 0; None
    where none may lack.
    """
    if not may_lack:
        return x, None
    known = (~x.isnan()).to(x)
    return torch.where(x.isnan(), -1.0, x), known


def blank(x: Tensor, known: Tensor | None) -> Tensor:
    """x with -1 where `known` is 0."""
    return x if known is None else known * x + known - 1


def mse(a: Tensor, b: Tensor, known: Tensor | None) -> Tensor:
    """Mean squared error of what is known."""
    return F.mse_loss(a, b) if known is None else (known * (a - b).square()).sum() / known.sum().clamp_min(1)


def with_label(x: Tensor, y: Tensor, labels: int) -> Tensor:
    """(B, C + labels, *S): a plane of ones for the image's label, of zeros for each other."""
    planes = one_hot(y, labels).to(x).reshape(len(y), labels, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
    return torch.cat([x, planes], 1)


def to_patches(x: Tensor, patch: int) -> Tensor:
    """(B, C, *S) -> (B, C patch^d, *S / patch): the same numbers on a coarser grid, where a convolution costs patch^d
    times less.
    """
    return pixelunshuffle(x, x.ndim - 2, patch) if patch > 1 else x


def from_patches(x: Tensor, patch: int) -> Tensor:
    """The inverse of to_patches."""
    return pixelshuffle(x, x.ndim - 2, patch) if patch > 1 else x


def coarsest(size: Sequence[int], halvings: int, patch: int = 1) -> tuple[int, ...]:
    """The size that is left after `patch` and the halvings. Raises ValueError where they do not come out even."""
    factor = patch * 2**halvings
    if any(s % factor for s in size):
        raise ValueError(
            f"image.size {list(size)} must be a multiple of {factor} along every axis (patch {patch}, {halvings}"
            " halvings)"
        )
    return tuple(s // factor for s in size)


def _norm(channels: int, groups: int = 8) -> tuple[str, dict[str, Any]]:
    return "GROUP", {"num_groups": gcd(groups, channels)}


class ToVector(nn.Module):
    """Image (B, C, *S) -> vector (B, `features`): a convolution for each level of the grid of patches, then all places
    together.
    """

    def __init__(self, size: Sequence[int], in_channels: int, features: int, channels: Sequence[int], patch: int):
        super().__init__()
        self.patch, d = patch, len(size)
        base = coarsest(size, len(channels) - 1, patch)
        widths = [in_channels * patch**d, *channels]
        self.blocks = nn.Sequential(
            *[
                Convolution(d, c_in, c_out, strides=1 if i == 0 else 2, act="LEAKYRELU", norm=_norm(c_out))
                for i, (c_in, c_out) in enumerate(pairwise(widths))
            ]
        )
        self.out = nn.Linear(channels[-1] * prod(base), features)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.blocks(to_patches(x, self.patch)).flatten(1))


class FromVector(nn.Module):
    """Vector (B, `features`), given (B, G, *S) -> (B, `out_channels`, *S): the mirror of ToVector, two convolutions a
    level.

    Given channels enter at every level, resized, so that neither their shape nor their detail is lost (as the map of
    SPADE, Park et al. 2019, arXiv:1903.07291).
    """

    def __init__(
        self, size: Sequence[int], features: int, given: int, out_channels: int, channels: Sequence[int], patch: int
    ):
        super().__init__()
        self.patch, self.given, d = patch, given, len(size)
        self.base = coarsest(size, len(channels) - 1, patch)
        widths = list(reversed(channels))
        self.start = nn.Linear(features, widths[0] * prod(self.base))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                Convolution(d, c_in + given * patch**d, c_out, act="LEAKYRELU", norm=_norm(c_out)),
                Convolution(d, c_out, c_out, act="LEAKYRELU", norm=_norm(c_out)),
            )
            for c_in, c_out in zip([widths[0], *widths[:-1]], widths, strict=True)
        )
        self.out = Convolution(d, widths[-1], out_channels * patch**d, conv_only=True)

    def forward(self, z: Tensor, given: Tensor | None) -> Tensor:
        h = self.start(z).reshape(len(z), -1, *self.base)
        fine = None if given is None else to_patches(given, self.patch)
        for level, block in enumerate(self.blocks):
            if level:
                h = F.interpolate(h, scale_factor=2.0, mode="nearest")
            there = None if fine is None else F.interpolate(fine, h.shape[2:], mode="area")
            h = block(with_given(h, there, self.given * self.patch ** (h.ndim - 2)))
        return from_patches(self.out(h), self.patch)
