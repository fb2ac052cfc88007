"""Downstream use: taking noise out of images. It needs neither classes nor masks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedsynth.training.supervised import Budget
from fedsynth.uses import Table, Use, predict

NOISE = 0.5  # standard deviation of the noise, of values in [-1, 1]
SMALL = 0.3  # of the first outputs, so that a training begins near to a flat image


class Denoising(Use):
    """A small U-Net with GroupNorm that takes noise (Gaussian, standard deviation 0.5) out of an image.

    It is for image sets of which nothing else is known: what a network learns of their structure from synthetic images
    can be compared with what it learns from real ones. `images`: number of image channels I; `size`: *S; `steps`,
    `batch`, `lr`: the training budget; `width`: channels at full resolution, a multiple of 4.
    """

    headline = "explained"
    metrics = ("explained",)

    def __init__(self, images: int, size: tuple[int, ...], steps: int = 200, batch: int = 16, lr: float = 1e-2,
                 width: int = 8):  # fmt: skip
        self.images, self.size = images, size
        self.steps, self.batch, self.lr, self.width = steps, batch, lr, width
        self.budget = Budget(steps, batch, lr)

    def network(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Denoiser(len(self.size), self.images, self.width)

    def loss(self, output: Tensor, masks: Tensor, y: Tensor) -> Tensor:
        return output.square().mean()

    def judge(self, net: nn.Module, images: Tensor, masks: Tensor, y: Tensor) -> Table:
        """Return of each image the mean square `error` and the `variance` of its channels (N,), and `y` (N,)."""
        error = predict(net, images, self.images).square().flatten(1).mean(1)
        flat = images.flatten(2)
        variance = (flat - flat.mean(2, keepdim=True)).square().mean((1, 2))
        return {"error": error.double().numpy(), "variance": variance.double().numpy(), "y": y.numpy()}

    def summarise(self, table: Table) -> tuple[dict[str, float], dict[str, int]]:
        """Return `explained`, 1 - error / variance of all images: the share of their structure that was found under
        the noise, 0 for none (a flat image) or less, 1 for all; NaN without an image.
        """
        n = len(table["y"])
        if not n:
            return {"explained": float("nan")}, {"explained": 0}
        share = 1 - float(table["error"].mean()) / max(float(table["variance"].mean()), 1e-12)
        return {"explained": max(0.0, share)}, {"explained": n}


class Denoiser(nn.Module):
    """A network (B, I, *S) -> (B, I, *S): adds noise to an image, takes it away, and returns how far it is off.

    The noise follows from the image alone in training, and is the same for all images in evaluation, so that a training
    can be resumed, and an image's result does not depend on the others.
    """

    def __init__(self, dimensions: int, images: int, width: int):
        super().__init__()
        from fedsynth.uses.segmentation import Segmenter

        self.unet = Segmenter(dimensions, images, images, width)

    def embed(self, x: Tensor) -> Tensor:
        found: Tensor = self.unet.embed(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        seed = int(x.detach().double().abs().sum().cpu() * 1e6) % 2**62 if self.training else 0
        shape = x.shape if self.training else (1, *x.shape[1:])
        noisy = x + NOISE * torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(x)
        axes = tuple(range(2, x.ndim))
        mean, std = noisy.mean(axes, keepdim=True), noisy.std(axes, keepdim=True)
        return mean + SMALL * std * self.unet(noisy) - x  # the U-Net sees standardised images
