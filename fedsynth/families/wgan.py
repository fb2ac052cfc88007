"""WGAN-GP: a Wasserstein GAN with gradient penalty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from fedsynth.families.gan import GAN
from fedsynth.networks.blocks import with_given


class WGANGP(GAN):
    """WGAN-GP (Gulrajani et al. 2017, arXiv:1704.00028, algorithm 1 and equation 3).

    The critic minimises D(fake) - D(x) + `penalty` (||grad D(mixed)|| - 1)^2, where `mixed` is a random interpolation
    between a real and a generated image; the generator minimises -D(fake). D is the mean over the patches of the output
    for the image's class, as in GAN.

    Both players step once per batch. Instead of the paper's five critic steps per generator step, the critic has a
    higher learning rate (two time scales: Heusel et al. 2017, arXiv:1706.08500).

    `shift` moves real, generated and interpolated images alike, so that the gradient is taken at the critic's actual
    input.
    """

    defaults: ClassVar = {
        "lr": {"generator": 1e-3, "discriminator": 2e-3},
        "betas": (0.0, 0.9),
        "clip": None,
        "ema": 0.995,
    }

    def __init__(self, generated: int, given: int, labels: int, size: Sequence[int], latent: int = 64,
                 channels: Sequence[int] = (32, 64, 96), patch: int = 2, width: int = 32, depth: int = 3,
                 penalty: float = 10.0, shift: float = 0.125, may_lack: Sequence[int] = ()):  # fmt: skip
        super().__init__(
            generated,
            given,
            labels,
            size,
            latent,
            channels,
            patch,
            width,
            depth,
            r1=0.0,
            shift=shift,
            may_lack=may_lack,
        )
        self.penalty = penalty

    def fool(self, drawn: Tensor, y: Tensor, given: Tensor | None = None) -> Tensor:
        return -self.judge(drawn, y, given).mean()

    def tell(self, x: Tensor, y: Tensor, drawn: Tensor, asked: Tensor, given: Tensor | None = None) -> Tensor:
        n = min(len(x), len(drawn))  # an interpolation needs a real and a generated image
        x, y, drawn, asked, given = x[:n], y[:n], drawn[:n], asked[:n], None if given is None else given[:n]
        moved = self._shifted(with_given(torch.cat([x, drawn], 1), given, self.given))
        real, fake, also = moved.split([self.generated, self.generated, self.given], 1)
        share = torch.rand((len(x), *[1] * (x.ndim - 1)), device=x.device)
        mixed = torch.lerp(fake, real, share).requires_grad_()

        def critic(images: Tensor, of: Tensor) -> Tensor:
            return self.marks(torch.cat([images, also], 1), of).mean(1)

        (slope,) = torch.autograd.grad(critic(mixed, y).sum(), mixed, create_graph=True)
        return (critic(fake, asked) - critic(real, y)).mean() + self.penalty * (
            slope.flatten(1).norm(dim=1) - 1
        ).square().mean()
