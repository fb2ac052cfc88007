"""GAN: a class-conditional generator and a patch discriminator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

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
    """GAN (Goodfellow et al. 2014, arXiv:1406.2661) with a class-conditional generator and a patch discriminator.

    The discriminator has one output per class, and the one of the image's own class is used (Liu et al. 2019,
    arXiv:1905.01723). Two things keep it from memorising a small set: the R1 penalty r1 / 2 ||grad D(x)||^2 at real
    images (Mescheder et al. 2018, arXiv:1801.04406, equation 9), and a random shift of real and generated images (Zhao
    et al. 2020, arXiv:2006.10738).

    Args:
        latent: length of z.
        channels, patch: channels of the generator's levels, and side in pixels of the patches that it outputs.
        width, depth: channels of the discriminator and its maximum number of levels.
        criterion: "least_squares" (Mao et al. 2017, arXiv:1611.04076), "hinge" or "bce".
        r1, r1_every: weight of the R1 penalty, which is computed in one of `r1_every` steps at random.
        shift: largest shift, as a share of the image size.
    """

    defaults: ClassVar = {"lr": 1e-3, "betas": (0.0, 0.99), "clip": None, "ema": 0.995}

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
        # With a side of 2^k pixels, k - 2 levels leave a feature map for the last convolution.
        levels = max(1, min(depth, int(math.log2(min(size))) - 2))
        norm: Any = None  # None works, though the annotation does not allow it
        self.discriminator = PatchDiscriminator(
            len(size), width, generated + given, labels, levels, norm=norm, bias=True
        )
        self.adversarial = (
            hinge if criterion == "hinge" else Adversarial(criterion=criterion, no_activation_leastsq=True)
        )

    def players(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator}

    def private_players(self) -> tuple[str, ...]:
        """The discriminator; also the generator if given channels, which are real, are its input.

        Without them the generator learns from images through the discriminator only.
        """
        return ("generator", "discriminator") if self.given else ("discriminator",)

    def draw(self, z: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """Generate images (B, C, *S) in (-1, 1) from z (B, latent)."""
        return torch.tanh(self.generator(torch.cat([z, F.one_hot(y, self.labels).to(z)], 1), given).float())

    def judge(self, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """Returns the discriminator's scores (B, patches) of x as an image of class y, after a random shift."""
        return self.marks(self._shifted(with_given(x, given, self.given)), y)

    def marks(self, seen: Tensor, y: Tensor) -> Tensor:
        """Returns the scores (B, patches) for class y of the discriminator's input `seen` (B, C + G, *S)."""
        return self.discriminator(seen)[-1].float()[torch.arange(len(y), device=y.device), y].flatten(1)

    def loss(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """Channels missing in a real image are also blanked in the generated image that it is compared with."""
        x, known = fill(x, self.may_lack)
        z = torch.randn(len(y), self.latent, device=x.device)
        if player == "generator":
            return self.fool(blank(self.draw(z, y, given), known), y, given)
        with torch.no_grad():
            drawn = blank(self.draw(z, y, given), known)
        return self.tell(x, y, drawn, y, given)

    def evidence(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor | None:
        """Minus the discriminator's score of each image; nothing else of a GAN depends on a real image directly."""
        if player != "discriminator":
            return None
        x, _ = fill(x, self.may_lack)
        return -self.marks(with_given(x, given, self.given), y).mean(1, keepdim=True)

    def fool(self, drawn: Tensor, y: Tensor, given: Tensor | None = None) -> Tensor:
        """Returns the generator's loss for generated images of classes y; it needs the discriminator only."""
        return self.adversarial(self.judge(drawn, y, given), target_is_real=True, for_discriminator=False)

    def tell(self, x: Tensor, y: Tensor, drawn: Tensor, asked: Tensor, given: Tensor | None = None) -> Tensor:
        """Returns the discriminator's loss for real images x of classes y and generated ones of the classes `asked`."""
        penalised = self.r1 > 0 and bool(torch.rand(()) * self.r1_every < 1)
        real = x.detach().requires_grad_(penalised)
        found = self.judge(real, y, given)
        loss = self.adversarial(found, True, True) + self.adversarial(self.judge(drawn, asked, given), False, True)
        if penalised:
            (slope,) = torch.autograd.grad(found.mean(1).sum(), real, create_graph=True)
            loss = loss + self.r1_every * self.r1 / 2 * slope.square().flatten(1).sum(1).mean()
        return loss

    def _shifted(self, x: Tensor) -> Tensor:
        """Shift each image by a random whole number of pixels along every axis, with edges repeated."""
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


class Adversarial(PatchAdversarialLoss):
    """MONAI's, with its targets made on the device: a step does not wait until they are copied to it."""

    def get_target_tensor(self, input: Tensor, target_is_real: bool) -> Tensor:
        return input.new_full((), self.real_label if target_is_real else self.fake_label).expand_as(input)


def hinge(marks: Tensor, target_is_real: bool, for_discriminator: bool) -> Tensor:
    """Hinge loss (Lim & Ye 2017, arXiv:1705.02894).

    relu(1 - D) for real and relu(1 + D) for generated images; -D for the generator. MONAI's hinge criterion applies
    tanh to D first, so that D never reaches the hinge.
    """
    if not for_discriminator:
        return -marks.mean()
    return F.relu(1 - marks if target_is_real else 1 + marks).mean()
