"""Forward operators that make a given channel from another one, and data consistency for reconstruction.

A new operator is one file here and one entry of params.yaml under `image.derived`. Legend: B batch · C generated and G
given channels · N images · *S spatial size, (H, W) or (D, H, W) · float32 in [-1, 1], -1 is no signal. What is degraded
is scaled already, so that both have one scale.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from fedsynth.params import Image


class Operator(ABC):
    """Constructor arguments become attributes of the same name."""

    @abstractmethod
    def degrade(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The given channel (N, *S) in [-1, 1] of images x (N, *S); all chance comes from the generator."""

    def estimate(self, given: Tensor) -> Tensor:
        """What the given channel (N, *S) shows without any model, as an image of x's scale: the baseline. Default:
        itself.
        """
        return given

    def consistent(self, x: Tensor, given: Tensor) -> Tensor:
        """Generated images x (N, *S), changed as little as makes them agree with what was measured exactly. Default:
        unchanged.
        """
        return x


def operator(image: Image, channel: str) -> Operator:
    """The operator that makes the derived channel. Raises ParamsError for an unknown class or argument."""
    made: Operator = image.derived[channel].operator.build(**image.context())
    return made


def derive(image: Image, array: np.ndarray, name: str) -> np.ndarray:
    """One image (C', *S) in the channels of `image.sourced`, with its derived ones (C, *S). The same name gives the
    same noise.
    """
    kept, planes = list(image.sourced.channels), []
    for channel in image.channels:
        if channel in image.derived:
            generator = torch.Generator().manual_seed(zlib.crc32(f"{name}/{channel}".encode()))
            whole = torch.from_numpy(array[kept.index(image.derived[channel].of)])
            planes.append(operator(image, channel).degrade(whole[None], generator)[0].clamp(-1, 1).numpy())
        else:
            planes.append(array[kept.index(channel)])
    return np.stack(planes).astype(np.float32)


def consistent(image: Image, generated: Tensor, given: Tensor) -> Tensor:
    """Generated channels (B, C, *S), made to agree with what the given ones (B, G, *S) have measured of them."""
    out = generated.clone()
    for channel, of in image.derived.items():
        if of.of in image.generated:
            place = image.generated.index(of.of)
            out[:, place] = operator(image, channel).consistent(
                out[:, place], given[:, image.given.index(channel)].to(out)
            )
    return out
