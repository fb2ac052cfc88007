"""Network blocks shared by the families, in 2-D and 3-D and without BatchNorm.

They map between images, given channels and latent vectors.
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
    """Concatenate the given channels (B, G, *S) to x (B, C, *S): (B, C + G, *S).

    Raises ValueError if the number of given channels is not `channels`, the number that the family was built for.
    """
    found = 0 if given is None else given.shape[1]
    if found != channels:
        raise ValueError(
            f"the model was made for {channels} given channels and got {found}; look at image.given in params.yaml"
        )
    return x if given is None else torch.cat([x, given.to(x)], 1)


def one_hot(y: Tensor, labels: int) -> Tensor:
    """One-hot encode labels (B,) as (B, labels).

    Unlike F.one_hot it works under torch.func, because it does not look at the values.
    """
    return torch.eye(labels, device=y.device)[y]


def fill(x: Tensor, may_lack: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """Replace missing channels (NaN) of images (B, C, *S) by -1.

    Returns the filled images and a mask that is 1 where a value is known and 0 elsewhere, or None if `may_lack` is
    empty.
    """
    if not may_lack:
        return x, None
    known = (~x.isnan()).to(x)
    return torch.where(x.isnan(), -1.0, x), known


def blank(x: Tensor, known: Tensor | None) -> Tensor:
    """Set x to -1 where the mask `known` is 0."""
    return x if known is None else known * x + known - 1


def mse(a: Tensor, b: Tensor, known: Tensor | None) -> Tensor:
    """Mean squared error over the values where the mask `known` is 1, or over all values if it is None."""
    return F.mse_loss(a, b) if known is None else (known * (a - b).square()).sum() / known.sum().clamp_min(1)


def errors(a: Tensor, b: Tensor, known: Tensor | None) -> Tensor:
    """Mean squared error of each image, as (B,), over the values where the mask `known` is 1, or over all values."""
    off, known = (a - b).square(), torch.ones_like(a) if known is None else known
    return (known * off).flatten(1).sum(1) / known.flatten(1).sum(1).clamp_min(1)


def with_label(x: Tensor, y: Tensor, labels: int) -> Tensor:
    """Append one plane per label, 1 for the image's own label and 0 for the others: (B, C + labels, *S)."""
    planes = one_hot(y, labels).to(x).reshape(len(y), labels, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
    return torch.cat([x, planes], 1)


def to_patches(x: Tensor, patch: int) -> Tensor:
    """Pixel unshuffle: (B, C, *S) -> (B, C patch^d, *S / patch).

    A convolution on the coarser grid costs patch^d times less.
    """
    return pixelunshuffle(x, x.ndim - 2, patch) if patch > 1 else x


def from_patches(x: Tensor, patch: int) -> Tensor:
    """The inverse of to_patches."""
    return pixelshuffle(x, x.ndim - 2, patch) if patch > 1 else x


def coarsest(size: Sequence[int], halvings: int, patch: int = 1) -> tuple[int, ...]:
    """Returns the spatial size after dividing by `patch` and halving `halvings` times.

    Raises ValueError if `size` is not divisible by patch * 2^halvings along every axis.
    """
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
    """Encoder from an image (B, C, *S) to a vector (B, `features`).

    One convolution per resolution level, then a linear layer over all positions.
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
    """Decoder from a vector (B, `features`) and given channels (B, G, *S) to an image (B, `out_channels`, *S).

    Mirrors ToVector, with two convolutions per level. The given channels are resized and concatenated at every level,
    so that neither their shape nor their detail is lost (like the map of SPADE, Park et al. 2019, arXiv:1903.07291).
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
