"""U-Net regression of the generated channels from the given ones: the baseline for conversion and reconstruction."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedsynth.families import Family
from fedsynth.networks.blocks import coarsest, fill, mse, one_hot, with_given
from fedsynth.networks.monai_imports import monai_imports

with monai_imports():
    from monai.networks.nets.dynunet import DynUNet


class Regression(Family):
    """U-Net (Ronneberger et al. 2015, arXiv:1505.04597) trained with the mean absolute error.

    The loss is equation 3 of Isola et al. 2017, arXiv:1611.07004, without the adversarial term. The output is
    deterministic: one image per given image and label, the per-pixel median of the possible ones. It has a good PSNR
    and is smoother than any real image.

    The network is MONAI's DynUNet, as for segmentation, with GroupNorm. `channels` are those of its levels; one more
    block of the last width follows.
    """

    defaults: ClassVar = {"lr": 2e-3, "ema": 0.99}

    deterministic = True
    has_error = True

    def __init__(
        self,
        generated: int,
        given: int,
        labels: int,
        size: Sequence[int],
        channels: Sequence[int] = (16, 32, 64),
        may_lack: Sequence[int] = (),
    ):
        super().__init__()
        self.generated, self.given, self.labels, self.size = generated, given, labels, size
        self.channels, self.may_lack = channels, may_lack
        coarsest(size, len(channels) - 1)
        strides = [1, *[2] * (len(channels) - 1), 1]
        self.unet = DynUNet(
            len(size),
            given + labels,
            generated,
            [3] * len(strides),
            strides,
            strides[1:],
            filters=[*channels, channels[-1]],
            norm_name=("group", {"num_groups": gcd(8, *channels)}),
        )

    def players(self) -> dict[str, nn.Module]:
        return {"unet": self.unet}

    def predict(self, y: Tensor, given: Tensor | None) -> Tensor:
        """Returns (B, C, *S) from the given channels and one plane per label."""
        planes = (
            one_hot(y, self.labels).to(next(self.unet.parameters())).reshape(len(y), self.labels, *[1] * len(self.size))
        )
        return self.unet(with_given(planes.expand(-1, -1, *self.size), given, self.given)).float()

    def loss(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        x, known = fill(x, self.may_lack)
        off = (self.predict(y, given) - x).abs()
        return off.mean() if known is None else (known * off).sum() / known.sum().clamp_min(1)

    def error(self, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        x, known = fill(x, self.may_lack)
        return mse(self.predict(y, given), x, known)

    @torch.no_grad()
    def sample(self, y: Tensor, given: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        device = next(self.parameters()).device
        return self.predict(y.to(device), None if given is None else given.to(device)).clamp(-1, 1)
