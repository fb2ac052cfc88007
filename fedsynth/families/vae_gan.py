"""VAE-GAN: a variational autoencoder with a discriminator; sharper than a VAE trained on a pixel loss alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsynth.families.gan import GAN
from fedsynth.families.vae import divergence
from fedsynth.networks.blocks import ToVector, with_given, with_label


class VAEGAN(GAN):
    """Conditional VAE-GAN (Larsen et al. 2016, arXiv:1512.09300, algorithm 1) with the discriminator of GAN.

    The autoencoder minimises the sum of three terms:
    - -ELBO, as in VAE with its `sigma`;
    - `likeness` times the error in the discriminator's last hidden layer (equation 7; the paper uses this term instead
      of a pixel loss, which does not work on small sets);
    - `fooling` times a GAN generator's loss on images from the encoder's z and from the prior's z, half of each. Its
      gradient does not reach the encoder (section 3.2).

    With `likeness` and `fooling` 0 it is a VAE with the prior N(0, I). The discriminator separates real images from
    such generated ones, with the `criterion`, R1 penalty and shift of GAN.

    `latent`, `channels`, `patch` are as in VAE; `width`, `depth` are those of GAN's discriminator.
    """

    defaults: ClassVar = {"lr": {"autoencoder": 2e-3, "discriminator": 1e-3}, "clip": None, "ema": 0.99}

    def __init__(
        self,
        generated: int,
        given: int,
        labels: int,
        size: Sequence[int],
        latent: int = 24,
        channels: Sequence[int] = (32, 64, 96),
        patch: int = 2,
        sigma: float = 0.2,
        width: int = 16,
        depth: int = 3,
        criterion: str = "least_squares",
        r1: float = 1.0,
        r1_every: int = 4,
        shift: float = 0.125,
        likeness: float = 0.1,
        fooling: float = 0.02,
    ):
        super().__init__(
            generated, given, labels, size, latent, channels, patch, width, depth, criterion, r1, r1_every, shift
        )
        self.sigma, self.likeness, self.fooling = sigma, likeness, fooling
        self.encoder = ToVector(size, generated + given + labels, 2 * latent, channels, patch)

    def players(self) -> dict[str, nn.Module]:
        return {"autoencoder": nn.ModuleList([self.encoder, self.generator]), "discriminator": self.discriminator}

    def private_players(self) -> tuple[str, ...]:
        return tuple(self.players())

    def encode(self, x: Tensor, y: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns mean and log-variance (B, latent) of q(z | x, y, given)."""
        seen = with_label(with_given(x, given, self.given), y, self.labels)
        mean, log_variance = self.encoder(seen).float().chunk(2, 1)
        return mean, log_variance.clamp(-12, 4)

    def loss(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        mean, log_variance = self.encode(x, y, given)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        if player == "discriminator":
            with torch.no_grad():
                drawn = self.draw(self._half_prior(z), y, given)
            return self.tell(x, y, drawn, y, given)
        seen = self.draw(z, y, given)
        loss = F.mse_loss(seen, x) + 2 * self.sigma**2 * divergence(mean, log_variance).mean() / x[0].numel()
        if self.likeness:
            loss = loss + self.likeness * self.unlike(seen, x, given)
        if self.fooling:
            loss = loss + self.fooling * self.fool(self.draw(self._half_prior(z), y, given), y, given)
        return loss

    def unlike(self, seen: Tensor, x: Tensor, given: Tensor | None) -> Tensor:
        """Relative error between two images in the discriminator's last hidden layer.

        The images are shifted alike; the mean squared error is divided by the layer's mean square for x. In the paper
        BatchNorm fixes the scale of that layer; here it is close to 0 in a new discriminator.
        """
        moved = self._shifted(with_given(torch.cat([seen, x], 1), given, self.given))
        a, b, also = moved.split([self.generated, self.generated, self.given], 1)
        found, wanted = (self.discriminator(torch.cat([image, also], 1))[-2].float() for image in (a, b))
        return F.mse_loss(found, wanted) / wanted.detach().square().mean().clamp_min(1e-12)

    def _half_prior(self, z: Tensor) -> Tensor:
        """Returns z detached from the encoder, each row replaced by a sample of the prior with probability 1/2."""
        return torch.where(torch.rand((len(z), 1), device=z.device) < 0.5, torch.randn_like(z), z.detach())
