"""Low-resolution operator: averages blocks of pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fedsynth.operators import Operator


class Coarse(Operator):
    """Mean over blocks of `factor` pixels along every axis.

    The given channel keeps the size of the image: each block is filled with its mean. Raises ValueError if `factor` <
    1.
    """

    def __init__(self, factor: int = 2):
        if factor < 1:
            raise ValueError(f"factor must be at least 1, not {factor}")
        self.factor = factor

    def degrade(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self._fill(self._means(x))

    def estimate(self, given: Tensor) -> Tensor:
        """Interpolate between the block centres: bicubic for slices, trilinear for volumes."""
        means, mode = self._means(given)[:, None], {3: "bicubic", 4: "trilinear"}[given.ndim]
        return F.interpolate(means, scale_factor=float(self.factor), mode=mode, align_corners=False)[:, 0].clamp(-1, 1)

    def consistent(self, x: Tensor, given: Tensor) -> Tensor:
        """Shift each block to its measured mean.

        This is one step of back-projection (Irani & Peleg 1991), which is the orthogonal projection here.
        """
        return x + self._fill(self._means(given) - self._means(x))

    def _means(self, x: Tensor) -> Tensor:
        """Returns block means (N, *S / factor). Raises ValueError if the size is not a multiple of `factor`."""
        if any(n % self.factor for n in x.shape[1:]):
            raise ValueError(
                f"image.size {list(x.shape[1:])} must be a multiple of {self.factor}, the factor of the resolution"
            )
        pool = {3: F.avg_pool2d, 4: F.avg_pool3d}[x.ndim]
        return pool(x[:, None], self.factor)[:, 0]

    def _fill(self, means: Tensor) -> Tensor:
        for axis in range(1, means.ndim):
            means = means.repeat_interleave(self.factor, axis)
        return means
