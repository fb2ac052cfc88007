"""Variational autoencoder, trained on the evidence lower bound: the cheapest family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedsynth.families import Family
from fedsynth.networks.blocks import FromVector, ToVector, errors, fill, mse, one_hot, with_given, with_label


class VAE(Family):
    """Conditional VAE (Kingma & Welling 2013, arXiv:1312.6114, equation 10; Sohn et al. 2015).

    The prior of each class is a normal distribution with a mean and a full covariance, which are learned with the rest:
    as a density that is fitted to the posteriors (Ghosh et al. 2020, arXiv:1903.12436, section 4), but of parameters
    that sites average and a mechanism of privacy covers. With N(0, I) samples lie where no image was encoded.

    The decoder predicts the mean of every pixel; the standard deviation is `sigma` everywhere, which weighs the
    reconstruction error against the KL term. (With a learned deviation per pixel the decoder treats anatomy as noise:
    docs/decisions/0003-families.md.) The image channels of a sample are the mean plus noise of standard deviation
    `texture`, because scanner noise is part of the images and a mean cannot show it; its masks (`mask_channels`) are
    the mean alone.

    Args:
        latent: length of z.
        channels: channels of the levels.
        patch: side, in pixels, of a patch that becomes one position of the finest level.
        pace: how many times as far a step moves the prior as the weights. Its gradient is far smaller than theirs, and
            AdamW moves every parameter by about `lr`: with 1 the prior of a class whose codes lie apart from N(0, I)
            has not arrived when the training ends. 1 where a privacy mechanism adds noise, which it would multiply.

    Raises ValueError if `latent` < 1, `sigma` <= 0, `texture` < 0 or `pace` <= 0.
    """

    defaults: ClassVar = {"lr": 2e-3, "ema": 0.99}

    def __init__(self, generated: int, given: int, labels: int, size: Sequence[int], latent: int = 24,
                 channels: Sequence[int] = (32, 64, 96), patch: int = 2, sigma: float = 0.25, texture: float = 0.0,
                 pace: float = 15.0, may_lack: Sequence[int] = (), mask_channels: Sequence[int] = ()):  # fmt: skip
        super().__init__()
        if latent < 1 or not min(sigma, pace) > 0 or texture < 0:
            raise ValueError(
                f"latent ({latent}) must be 1 or more, sigma ({sigma}) above 0, pace ({pace}) above 0, texture"
                f" ({texture}) 0 or more"
            )
        self.generated, self.given, self.labels, self.size = generated, given, labels, size
        self.may_lack, self.mask_channels = may_lack, mask_channels
        self.latent, self.channels, self.patch, self.sigma, self.texture = latent, channels, patch, sigma, texture
        self.pace = pace
        self.autoencoder = nn.ModuleDict(
            {
                "encoder": ToVector(size, generated + given + labels, 2 * latent, channels, patch),
                "decoder": FromVector(size, latent + labels, given, generated, channels, patch),
                # by class, over `pace`: the prior's mean, the logarithm of W's diagonal and what is below it; N(0, I)
                "prior": nn.Embedding.from_pretrained(
                    torch.zeros(labels, latent + latent * (latent + 1) // 2), freeze=False
                ),
            }
        )

    def players(self) -> dict[str, nn.Module]:
        return {"autoencoder": self.autoencoder}

    def encode(self, x: Tensor, y: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns mean and log-variance (B, latent) of q(z | x, y, given)."""
        seen = with_label(with_given(x, given, self.given), y, self.labels)
        mean, log_variance = self.autoencoder["encoder"](seen).float().chunk(2, 1)
        return mean, log_variance.clamp(-12, 4)

    def decode(self, z: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """Returns the mean (B, C, *S) in (-1, 1) of p(x | z, y, given)."""
        return torch.tanh(self.autoencoder["decoder"](torch.cat([z, one_hot(y, self.labels).to(z)], 1), given).float())

    def prior(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the mean (B, latent) and W (B, latent, latent) of p(z | y): lower triangular, (W^T W)^-1 is the
        covariance.
        """
        found = self.pace * self.autoencoder["prior"](y).float()
        mean, log_diagonal, below = found.tensor_split((self.latent, 2 * self.latent), 1)
        w = torch.diag_embed(log_diagonal.clamp(-6, 6).exp())
        rows, columns = torch.tril_indices(self.latent, self.latent, -1, device=y.device)
        w[:, rows, columns] = below
        return mean, w

    has_error = True

    def error(self, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """Mean squared error of the reconstruction from the encoder's mean."""
        x, known = fill(x, self.may_lack)
        return mse(self.decode(self.encode(x, y, given)[0], y, given), x, known)

    def loss(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """-ELBO in units of sigma^2 / 2, per value of an image, so that it does not grow with the image size.

        Values of missing channels do not count: both terms are sums over the images, divided by the known values.
        """
        x, known = fill(x, self.may_lack)
        mean, log_variance = self.encode(x, y, given)
        seen = self.decode(mean + torch.randn_like(mean) * (log_variance / 2).exp(), y, given)
        values = x.numel() if known is None else known.sum().clamp_min(1)
        kl = divergence(mean, log_variance, *self.prior(y))
        return mse(seen, x, known) + 2 * self.sigma**2 * kl.sum() / values

    def evidence(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """-ELBO of each image, in the units of the loss."""
        x, known = fill(x, self.may_lack)
        mean, log_variance = self.encode(x, y, given)
        seen = self.decode(mean + torch.randn_like(mean[:1]) * (log_variance / 2).exp(), y, given)
        kl = divergence(mean, log_variance, *self.prior(y))
        elbo = errors(seen, x, known) + 2 * self.sigma**2 * kl / x[0].numel()
        return elbo[:, None]

    @torch.no_grad()
    def sample(self, y: Tensor, given: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        device = next(self.parameters()).device
        y, noise = y.to(device), torch.randn((len(y), self.latent), generator=generator).to(device)
        middle, w = self.prior(y)
        z = middle + torch.linalg.solve_triangular(w, noise[..., None], upper=False)[..., 0]
        mean = self.decode(z, y, None if given is None else given.to(device))
        noise = torch.randn(mean.shape, generator=generator).to(device)
        for channel in self.mask_channels:
            noise[:, channel] = 0
        return (mean + self.texture * noise).clamp(-1, 1)


def divergence(mean: Tensor, log_variance: Tensor, middle: Tensor | None = None, w: Tensor | None = None) -> Tensor:
    """Returns KL(N(mean, exp(log_variance)) || N(middle, (W^T W)^-1)) of each row of (B, n), as (B,).

    `w` (B, n, n) lower triangular with a positive diagonal. Without `middle` and `w` the second is N(0, I) (Kingma &
    Welling 2013, appendix B).
    """
    if middle is None or w is None:
        return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
    apart = (w @ (mean - middle)[..., None]).square().sum((1, 2))
    spread = (w.square() * log_variance.exp()[:, None]).sum((1, 2))
    log_w = w.diagonal(dim1=1, dim2=2).log().sum(1)
    return (apart + spread - mean.shape[1] - log_variance.sum(1)) / 2 - log_w
