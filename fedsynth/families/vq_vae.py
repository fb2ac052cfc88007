"""VQ-VAE: an autoencoder with a codebook of latents, and a transformer prior over the codes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsynth.families import Family, Phase
from fedsynth.networks.blocks import coarsest, to_patches, with_given
from fedsynth.networks.monai_imports import monai_imports

with monai_imports():
    from monai.networks.nets.transformer import DecoderOnlyTransformer
    from monai.networks.nets.vqvae import Decoder, Encoder

# stride, kernel size, dilation, padding (and output padding): halve and double the size
DOWN, UP = (2, 4, 1, 1), (2, 4, 1, 1, 0)


class VQVAE(Family):
    """VQ-VAE (van den Oord et al. 2017, arXiv:1711.00937) in two phases.

    The first phase trains the autoencoder, the second a prior over its codes (section 3.3). The autoencoder minimises
    equation 3: reconstruction error, codebook loss and `beta` times the commitment loss, with the straight-through
    gradient of equation 2. The codebook is learned by gradient and not, as in MONAI's quantiser, by moving averages:
    those are buffers, which are not sent and which no privacy mechanism would protect. The networks are MONAI's.

    The prior is a causal transformer over the codes in raster order, instead of the paper's PixelCNN. Its first token
    is the class, and it attends to the given channels as patches on the code grid. The autoencoder is conditioned on
    neither.

    Args:
        codes, latent: number of codes in the codebook and length of each.
        channels: channels of the levels; each level halves the size.
        share: share of the rounds of the first phase.
        width, depth, heads: embedding size, layers and attention heads of the transformer.
    """

    defaults: ClassVar = {"lr": 2e-3, "ema": 0.99}

    def __init__(
        self,
        generated: int,
        given: int,
        labels: int,
        size: Sequence[int],
        codes: int = 64,
        latent: int = 8,
        channels: Sequence[int] = (32, 64),
        beta: float = 0.25,
        share: float = 0.5,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
    ):
        super().__init__()
        self.generated, self.given, self.labels, self.size = generated, given, labels, size
        self.codes, self.latent, self.channels, self.beta, self.share = codes, latent, channels, beta, share
        self.width, self.depth, self.heads = width, depth, heads
        self.grid, self.factor, d = coarsest(size, len(channels)), 2 ** len(channels), len(size)
        same: dict[str, Any] = {"channels": channels, "num_res_layers": 1, "num_res_channels": channels}
        same |= {"dropout": 0.0, "act": "RELU"}
        down, up = [DOWN] * len(channels), [UP] * len(channels)
        self.autoencoder = nn.ModuleDict(
            {
                "encoder": Encoder(d, generated, latent, downsample_parameters=down, **same),
                "decoder": Decoder(d, latent, generated, upsample_parameters=up, output_act="TANH", **same),
                "book": nn.Embedding(codes, latent),
            }
        )
        # initialised close to each other, so that all codes are used
        nn.init.uniform_(self.autoencoder["book"].weight, -1 / codes, 1 / codes)  # type: ignore[arg-type]
        self.prior = nn.ModuleDict(
            {
                "transformer": DecoderOnlyTransformer(
                    codes + labels, prod(self.grid), width, depth, heads, with_cross_attention=given > 0
                )
            }
        )
        if given:
            self.prior["given"] = nn.Conv1d(given * self.factor**d, width, 1)
            self.prior["places"] = nn.Embedding(prod(self.grid), width)
        else:
            for block in self.prior["transformer"].blocks:  # type: ignore[union-attr]
                block.norm_cross_attn = nn.Identity()  # MONAI creates a layer here that it never uses

    def players(self) -> dict[str, nn.Module]:
        return {"autoencoder": self.autoencoder, "prior": self.prior}

    def phases(self) -> list[Phase]:
        return [Phase(self.share, ("autoencoder",)), Phase(1 - self.share, ("prior",), self.view)]

    def view(self, x: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Returns the codes (B, positions) of images, and the given channels as patches on the code grid."""
        with_given(x, given, self.given)
        with torch.no_grad():
            return self.nearest(self.autoencoder["encoder"](x)), (
                None if given is None else to_patches(given, self.factor)
            )

    def nearest(self, h: Tensor) -> Tensor:
        """Returns the nearest code at each position of h (B, latent, *grid), as (B, positions): equation 1."""
        book: Tensor = self.autoencoder["book"].weight  # type: ignore[assignment]
        return (book.square().sum(1) - 2 * h.float().flatten(2).transpose(1, 2) @ book.T).argmin(2)

    def embed(self, codes: Tensor) -> Tensor:
        """Look up codes (B, positions) in the codebook: (B, latent, *grid)."""
        return self.autoencoder["book"](codes).transpose(1, 2).reshape(len(codes), self.latent, *self.grid)

    def loss(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """The loss of the prior also accepts x and given as returned by `view`."""
        if player == "prior":
            codes, given = self.view(x, given) if x.is_floating_point() else (x, given)
            told = self.code_logits(torch.cat([self.codes + y[:, None], codes[:, :-1]], 1), given)
            return F.cross_entropy(told.transpose(1, 2), codes)
        with_given(x, given, self.given)
        h = self.autoencoder["encoder"](x).float()
        e = self.embed(self.nearest(h.detach()))
        seen = self.autoencoder["decoder"](h + (e - h).detach()).float()
        return F.mse_loss(seen, x) + F.mse_loss(e, h.detach()) + self.beta * F.mse_loss(h, e.detach())

    def code_logits(self, tokens: Tensor, given: Tensor | None) -> Tensor:
        """Returns the logits (B, n, codes) of the code at each of the first n positions.

        They depend on the class and the codes before that position.
        """
        context = None
        if given is not None:
            context = self.prior["given"](given.flatten(2)).transpose(1, 2) + self.prior["places"].weight
        return self.prior["transformer"](tokens, context)[..., : self.codes].float()

    @torch.no_grad()
    def sample(self, y: Tensor, given: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        device = next(self.parameters()).device
        there = None if given is None else to_patches(given.to(device), self.factor)
        tokens = self.codes + y.to(device)[:, None]
        for _ in range(prod(self.grid)):
            likely = self.code_logits(tokens, there)[:, -1].softmax(1).cpu()  # drawn on the CPU, where the generator is
            tokens = torch.cat([tokens, torch.multinomial(likely, 1, generator=generator).to(device)], 1)
        return self.autoencoder["decoder"](self.embed(tokens[:, 1:])).float()
