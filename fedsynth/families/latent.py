"""Latent diffusion: an autoencoder compresses the images, and a diffusion model is trained on its latents."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsynth.families import Family, Phase
from fedsynth.families.diffusion import Diffusion
from fedsynth.families.vae import divergence
from fedsynth.networks.blocks import coarsest, errors, from_patches, to_patches, with_given
from fedsynth.networks.monai_imports import monai_imports
from fedsynth.params import Block

with monai_imports():
    from monai.networks.nets.autoencoderkl import AutoencoderKL

DIFFUSION = "fedsynth.families.diffusion.Diffusion"
PACE = 20  # an optimiser step changes the log of the scale PACE times as much as it changes a weight


class Latent(Family):
    """Latent diffusion (Rombach et al. 2022, arXiv:2112.10752) in two phases.

    The first phase trains an autoencoder with a small KL term, the second a diffusion model on the means of the frozen
    encoder. The autoencoder minimises -ELBO as VAE does, with spatial latents of `latent` channels, and is conditioned
    on neither class nor given channels. The diffusion model is conditioned on both: given channels are unshuffled to
    patches on the latent grid, which loses nothing.

    The scale factor (appendix G) is one number for all sites, 1 over the standard deviation of the latents' means. It
    is a parameter with its own loss, learned in the first phase. So it is sent, averaged and protected like every other
    parameter, and no extra statistic leaves a site.

    Args:
        channels, blocks: channels of the autoencoder's levels and residual blocks per level.
        patch: side, in pixels, of a patch that becomes one position of the finest level; one position of the latents
            covers patch * 2^(levels - 1) pixels per side.
        share: share of the rounds of the first phase.
        groups: of the autoencoder's normalisations, at most: what divides it and all `channels`. MAISI's has 32.
        diffusion: class_path and args of the second phase: `families.diffusion.Diffusion` (the default) or
            `families.ddpm.DDPM`.

    Raises ValueError if the size is not divisible, if the latents are not smaller than the images, if `share` is not
    between 0 and 1, or if `diffusion` is another family.
    """

    defaults: ClassVar = {"lr": 2e-3, "ema": 0.995}

    def __init__(
        self,
        generated: int,
        given: int,
        labels: int,
        size: Sequence[int],
        latent: int = 4,
        channels: Sequence[int] = (32, 64),
        patch: int = 2,
        blocks: int = 1,
        sigma: float = 0.05,
        share: float = 0.4,
        diffusion: dict[str, Any] | None = None,
        groups: int = 8,
    ):
        super().__init__()
        self.generated, self.given, self.labels, self.size, self.latent = generated, given, labels, size, latent
        self.channels, self.patch, self.blocks, self.sigma, self.share, self.diffusion = (
            channels,
            patch,
            blocks,
            sigma,
            share,
            diffusion,
        )
        self.groups = groups
        self.grid, self.factor, d = (
            coarsest(size, len(channels) - 1, patch),
            patch * 2 ** (len(channels) - 1),
            len(size),
        )
        if self.factor == 1 or not 0 < share < 1:
            raise ValueError(
                f"latents must be smaller than images (patch {patch}, channels {list(channels)}), share from 0 to 1"
                f" ({share})"
            )
        self.autoencoder = AutoencoderKL(
            d, generated * patch**d, generated * patch**d, num_res_blocks=blocks, channels=tuple(channels),
            attention_levels=[False] * len(channels), latent_channels=latent, norm_num_groups=gcd(groups, *channels),
            with_encoder_nonlocal_attn=False, with_decoder_nonlocal_attn=False,
        )  # fmt: skip
        self.autoencoder.scale = nn.Parameter(torch.zeros(1))
        self.prior = self._prior(Block(**(diffusion or {"class_path": DIFFUSION})))
        self.personal = tuple(f"prior.{name}" for name in self.prior.personal)

    def _prior(self, block: Block) -> Diffusion:
        known = {
            "generated": self.latent,
            "given": self.given * self.factor ** len(self.size),
            "labels": self.labels,
            "size": self.grid,
        }
        try:
            prior = Block(class_path=block.class_path, args={"patch": 1} | block.args).build(**known)
        except ValueError as error:
            raise ValueError(
                f"the latents of image.size {list(self.size)} have the size {list(self.grid)}: {error}"
            ) from error
        if not isinstance(prior, Diffusion):
            raise ValueError(f"diffusion must be {DIFFUSION} or fedsynth.families.ddpm.DDPM, not {block.class_path}")
        prior.bounded = False
        return prior

    def players(self) -> dict[str, nn.Module]:
        return {"autoencoder": self.autoencoder, "unet": self.prior.unet}

    def phases(self) -> list[Phase]:
        return [Phase(self.share, ("autoencoder",)), Phase(1 - self.share, ("unet",), self.view)]

    @property
    def deviation(self) -> Tensor:
        """Standard deviation (1,) of the latents' means, which is 1 over the scale factor."""
        scale: Tensor = self.autoencoder.scale  # type: ignore[assignment]
        return (PACE * scale).exp()

    def view(self, x: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Returns the scaled means of the latents (B, latent, *grid), and the given channels as patches on the grid."""
        with_given(x, given, self.given)
        with torch.no_grad():
            mean, _ = self.autoencoder.encode(to_patches(x, self.patch))
            return mean / self.deviation, self._on_grid(given)

    def _on_grid(self, given: Tensor | None) -> Tensor | None:
        return None if given is None else to_patches(given, self.factor)

    def decode(self, z: Tensor) -> Tensor:
        """Returns images (B, C, *S) in (-1, 1) for unscaled latents, as the encoder outputs them."""
        return torch.tanh(from_patches(self.autoencoder.decode(z).float(), self.patch))

    def loss(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """The loss of the U-Net also accepts x and given as returned by `view`."""
        if player == "unet":
            z, given = (x, given) if x.shape[1:] == (self.latent, *self.grid) else self.view(x, given)
            return self.prior.loss("unet", z, y, given)
        with_given(x, given, self.given)
        mean, deviation = self.autoencoder.encode(to_patches(x, self.patch))
        seen = self.decode(mean + torch.randn_like(mean) * deviation)
        kl = divergence(mean.float().flatten(1), 2 * deviation.float().log().flatten(1))
        return (
            F.mse_loss(seen, x)
            + 2 * self.sigma**2 * kl.mean() / x[0].numel()
            + self._learn_scale(mean.detach().float())
        )

    def evidence(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor | None:
        """Of the U-Net at the latents; of the autoencoder -ELBO of each image."""
        if player == "unet":
            z, given = self.view(x, given)
            return self.prior.evidence("unet", z, y, given)
        mean, deviation = self.autoencoder.encode(to_patches(x, self.patch))
        seen = self.decode(mean + torch.randn_like(mean[:1]) * deviation)
        kl = divergence(mean.float().flatten(1), 2 * deviation.float().log().flatten(1))
        return (errors(seen, x, None) + 2 * self.sigma**2 * kl / x[0].numel())[:, None]

    def _learn_scale(self, mean: Tensor) -> Tensor:
        """Returns 0 with a gradient that moves log `deviation` to the log standard deviation of the batch's means."""
        far = self.deviation.log() - mean.std().clamp_min(1e-6).log()
        loss = far.square().mean() / (8 * PACE)
        return loss - loss.detach()

    @torch.no_grad()
    def sample(self, y: Tensor, given: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        z = self.prior.sample(y, self._on_grid(given), generator)
        return self.decode(z.to(self.deviation) * self.deviation)
