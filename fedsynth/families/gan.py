"""GAN: a class-conditional generator and a patch discriminator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsynth.families import Family
from fedsynth.networks.blocks import FromVector, blank, fill, with_given
from fedsynth.networks.monai_imports import monai_imports

with monai_imports():
    from monai.losses.adversarial_loss import PatchAdversarialLoss
    from monai.networks.nets.patchgan_discriminator import PatchDiscriminator


class GAN(Family):
    """Goodfellow et al. 2014, arXiv:1406.2661, with the `criterion` "least_squares" (Mao et al. 2017,
    arXiv:1611.04076), "hinge" or "bce".

    The discriminator has an output for each class and is asked about the image's own (Liu et al. 2019,
    arXiv:1905.01723). Two things keep it from learning a small set by heart: a penalty r1 / 2 ||grad D(x)||^2 at real
    images (Mescheder et al. 2018, arXiv:1801.04406, equation 9), in one step of `r1_every`, and a random shift of real
    and generated images by up to `shift` of the size (Zhao et al. 2020, arXiv:2006.10738).

    `latent`: length of z; `channels`, `patch`: levels of the generator and pixels of a side that it draws at once;
    `width`, `depth`: channels and, at most, levels of the discriminator.
    """

    def __init__(self, generated: int, given: int, labels: int, size: Sequence[int], latent: int = 64,
                 channels: Sequence[int] = (32, 64, 96), patch: int = 2, width: int = 32, depth: int = 3,
                 criterion: str = "least_squares", r1: float = 1.0, r1_every: int = 4, shift: float = 0.125,
                 may_lack: Sequence[int] = ()):  # fmt: skip
        super().__init__()
        self.generated, self.given, self.labels, self.size = generated, given, labels, size
        self.latent, self.channels, self.patch, self.width, self.depth = latent, channels, patch, width, depth
        self.may_lack = may_lack
        self.criterion, self.r1, self.r1_every, self.shift = criterion, r1, r1_every, shift
        self.generator = FromVector(size, latent + labels, given, generated, channels, patch)
        # Of a size of 2^k, k - 2 levels leave the last convolution places to look at.
        levels = max(1, min(depth, int(math.log2(min(size))) - 2))
        norm: Any = None  # it takes none, though it does not say so
        self.discriminator = PatchDiscriminator(
            len(size), width, generated + given, labels, levels, norm=norm, bias=True
        )
        self.adversarial = (
            hinge if criterion == "hinge" else PatchAdversarialLoss(criterion=criterion, no_activation_leastsq=True)
        )

    def players(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator}

    def private_players(self) -> tuple[str, ...]:
        """The generator learns of images through the discriminator alone, unless given channels, which are real ones,
        go into it.
        """
        return ("generator", "discriminator") if self.given else ("discriminator",)

    def draw(self, z: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """Images (B, C, *S) in (-1, 1) from z (B, latent)."""
        return torch.tanh(self.generator(torch.cat([z, F.one_hot(y, self.labels).to(z)], 1), given).float())

    def judge(self, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """(B, places): how real x looks as an image of class y."""
        return self.marks(self._shifted(with_given(x, given, self.given)), y)

    def marks(self, seen: Tensor, y: Tensor) -> Tensor:
        """(B, places): the outputs for class y where the discriminator sees (B, C + G, *S)."""
        return self.discriminator(seen)[-1].float()[torch.arange(len(y)), y].flatten(1)

    def loss(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """What a real image lacks, the generated one that it is compared with is shown without, too."""
        x, known = fill(x, self.may_lack)
        z = torch.randn(len(y), self.latent, device=x.device)
        if player == "generator":
            return self.fool(blank(self.draw(z, y, given), known), y, given)
        with torch.no_grad():
            drawn = blank(self.draw(z, y, given), known)
        return self.tell(x, y, drawn, y, given)

    def fool(self, drawn: Tensor, y: Tensor, given: Tensor | None = None) -> Tensor:
        """The generator's loss, as a function of what it has drawn for classes y: who has the discriminator need not
        have the generator.
        """
        return self.adversarial(self.judge(drawn, y, given), target_is_real=True, for_discriminator=False)

    def tell(self, x: Tensor, y: Tensor, drawn: Tensor, asked: Tensor, given: Tensor | None = None) -> Tensor:
        """The discriminator's loss at real images x of classes y and at those drawn for the classes `asked`."""
        penalised = self.r1 > 0 and bool(torch.rand(()) * self.r1_every < 1)
        real = x.detach().requires_grad_(penalised)
        found = self.judge(real, y, given)
        loss = self.adversarial(found, True, True) + self.adversarial(self.judge(drawn, asked, given), False, True)
        if penalised:
            (slope,) = torch.autograd.grad(found.mean(1).sum(), real, create_graph=True)
            loss = loss + self.r1_every * self.r1 / 2 * slope.square().flatten(1).sum(1).mean()
        return loss

    def _shifted(self, x: Tensor) -> Tensor:
        """Each image moved by its own whole number of pixels along every axis, edges repeated."""
        for axis in range(2, x.ndim):
            n = x.shape[axis]
            far = int(self.shift * n)
            if far:
                by = torch.randint(-far, far + 1, (len(x), 1), device=x.device)
                places = (torch.arange(n, device=x.device) + by).clamp(0, n - 1)
                places = places.reshape(len(x), *[n if a == axis else 1 for a in range(1, x.ndim)])
                x = x.gather(axis, places.expand_as(x))
        return x

    @torch.no_grad()
    def sample(self, y: Tensor, given: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        device = next(self.parameters()).device
        z = torch.randn((len(y), self.latent), generator=generator).to(device)
        return self.draw(z, y.to(device), None if given is None else given.to(device))


def hinge(marks: Tensor, target_is_real: bool, for_discriminator: bool) -> Tensor:
    """Lim & Ye 2017, arXiv:1705.02894: relu(1 -+ D) for real and drawn images, -D for the generator.

    MONAI's of that name sends D through tanh before, so that it never reaches the hinge.
    """
    if not for_discriminator:
        return -marks.mean()
    return F.relu(1 - marks if target_is_real else 1 + marks).mean()
