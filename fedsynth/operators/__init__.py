"""Forward operators that compute a given channel from another channel, and data consistency for reconstruction.

Legend: B batch · C generated and G given channels · N images · *S spatial size, (H, W) or (D, H, W) · images are
float32 in [-1, 1], -1 is no signal. Operators act on images that are already scaled, so that both channels have the
same scale.

A new operator is one file in this folder and one entry of params.yaml under `image.derived`.
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
    """A forward operator; constructor arguments become attributes of the same name."""

    @abstractmethod
    def degrade(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the given channel (N, *S) in [-1, 1] for images x (N, *S); all randomness is from the generator."""

    def estimate(self, given: Tensor) -> Tensor:
        """Returns an image on the scale of x from the given channel (N, *S) without any model: the baseline.

        By default the given channel itself.
        """
        return given

    def consistent(self, x: Tensor, given: Tensor) -> Tensor:
        """Returns generated images x (N, *S) with the smallest change that makes them agree with the measurement.

        By default unchanged.
        """
        return x


def operator(image: Image, channel: str) -> Operator:
    """Returns the operator of a derived channel. Raises ParamsError for an unknown class or argument."""
    made: Operator = image.derived[channel].operator.build(**image.context())
    return made


def derive(image: Image, array: np.ndarray, name: str) -> np.ndarray:
    """Add the derived channels to one image (C', *S) with the channels of `image.sourced`; returns (C, *S).

    The same `name` gives the same noise.
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
    """Make generated channels (B, C, *S) agree with what the given channels (B, G, *S) measured of them."""
    out = generated.clone()
    for channel, of in image.derived.items():
        if of.of in image.generated:
            place = image.generated.index(of.of)
            out[:, place] = operator(image, channel).consistent(
                out[:, place], given[:, image.given.index(channel)].to(out)
            )
    return out
