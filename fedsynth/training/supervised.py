"""The training loop of downstream networks: the same budget, sampling and augmentation for every row of the table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from fedsynth.networks.device import device, moved, numbers
from fedsynth.networks.optimizer import LeanAdamW

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Budget:
    """A fixed number of optimiser steps, whatever the number of images.

    So no row of the table gets more training than another. Raises ValueError if `steps` or `batch` is below 1, or `lr`
    is not above 0.
    """

    steps: int
    batch: int
    lr: float  # the peak; it rises over the first tenth of the steps and falls to 0 on a cosine
    weight_decay: float = 0.05

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or not self.lr > 0:
            raise ValueError(
                f"steps ({self.steps}) and batch ({self.batch}) must be 1 or more, and lr ({self.lr}) above 0: without"
                " them a network stays untrained"
            )


class Training:
    """A training that can be run in parts, so that rounds of FedAvg use the same loop as a training in one go.

    The same seed gives the same network on the same machine. Raises ValueError if there are no images.

    Args:
        loss: `loss(net(images), masks, y)` returns a scalar.
        images, masks, y: (N, I, *S), (N, M, *S) and class labels (N,).
        weights: (N,) >= 0. Every class is sampled equally often, and images within a class in proportion to their
            weights (default: equal).
    """

    def __init__(self, net: nn.Module, loss: Loss, images: Tensor, masks: Tensor, y: Tensor, budget: Budget, seed: int,
                 weights: Tensor | None = None):  # fmt: skip
        if len(images) == 0:
            raise ValueError(
                "there is no image to train on; look at the set's manifest: every row is in another split or has a"
                " problem"
            )
        self.device = device()
        # 1.1 to 1.2 times as fast for these networks of slices on a CPU: docs/decisions/0002
        layout = torch.channels_last if images.ndim == 4 else torch.contiguous_format
        self.net = net.to(self.device).to(memory_format=layout)  # type: ignore[call-overload]  # torch's stub has no Module
        self.loss, self.budget = loss, budget
        self.images, self.masks, self.y = images, masks, y
        self.generator = torch.Generator().manual_seed(seed)
        self.share = shares(y, weights)
        self.optimizer = LeanAdamW(net.parameters(), lr=budget.lr, weight_decay=budget.weight_decay)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, budget.lr, total_steps=max(budget.steps, 2), pct_start=0.1
        )

    def steps(self, n: int) -> float:
        """Take the next n steps of the budget. Returns the mean loss, NaN for n = 0."""
        self.net.train()
        losses = [self._step() for _ in range(n)]
        self.net.eval()
        return sum(numbers(losses)) / n if n else math.nan

    def _step(self) -> Tensor:
        places = torch.multinomial(self.share, self.budget.batch, replacement=True, generator=self.generator)
        x, m = augment(self.images[places], self.masks[places], self.generator)
        x, m, y = (moved(of, self.device) for of in (x, m, self.y[places]))
        value = self.loss(self.net(x), m, y)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        return value.detach()

    def state(self) -> dict[str, Any]:
        """Returns what must be kept between processes: tensors and plain values."""
        schedule = {k: v for k, v in self.schedule.state_dict().items() if isinstance(v, int | float)}
        return {"optimizer": self.optimizer.state_dict(), "schedule": schedule, "generator": self.generator.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])


def train(net: nn.Module, loss: Loss, images: Tensor, masks: Tensor, y: Tensor, budget: Budget, seed: int,
          weights: Tensor | None = None) -> nn.Module:  # fmt: skip
    """Train `net` in place with the whole budget; see Training."""
    Training(net, loss, images, masks, y, budget, seed, weights).steps(budget.steps)
    return net


def shares(y: Tensor, weights: Tensor | None = None) -> Tensor:
    """Returns (N,) sampling probabilities: equal for each class present, proportional to `weights` within a class.

    Raises ValueError unless `weights` are N numbers >= 0 that are not all 0.
    """
    weights = torch.ones(len(y), dtype=torch.float64) if weights is None else weights.double()
    if len(weights) != len(y) or (weights < 0).any() or weights.sum() <= 0:
        raise ValueError(f"weights must be {len(y)} numbers >= 0, not all 0")
    total = torch.zeros(int(y.max()) + 1, dtype=torch.float64).index_add_(0, y, weights)
    share = torch.where(weights > 0, weights / total[y], 0.0)
    return share / share.sum()


def augment(images: Tensor, masks: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Random augmentation that varies patient and scanner without changing the diagnosis.

    Mirroring along the last axis, rotation, zoom and shift for images and masks; then gamma, a smooth bias field and
    noise for the images (as in nnU-Net's default scheme, Isensee et al. 2021, with a bias field in place of blur).
    Masks stay -1 or 1. Networks standardise each image, so gain and offset are not augmented. A channel that is -1
    throughout, because it was not acquired, stays so: noise in it would be standardised to the level of an image.
    """
    both = torch.cat([images, masks], 1)
    both = _move(_mirror(both, generator), generator)
    x, m = both[:, : images.shape[1]], both[:, images.shape[1] :]
    blank = (images == -1).flatten(2).all(2).view(*images.shape[:2], *[1] * (images.ndim - 2))
    return torch.where(blank, -1.0, _rescan(x, generator)), torch.where(m > 0, 1.0, -1.0)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def _mirror(x: Tensor, generator: Generator) -> Tensor:
    mirrored = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(mirrored.view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)


def _move(x: Tensor, generator: Generator, angle: float = 0.26, zoom: float = 0.12, shift: float = 0.06) -> Tensor:
    """Rotate, zoom and shift with one affine matrix, for any number of dimensions.

    `angle`: about the largest angle per plane, in rad; `zoom`: largest log zoom factor; `shift`: as a share of the
    size.
    """
    b, d = len(x), x.ndim - 2
    a = _uniform((b, d, d), -angle, angle, generator).tril(-1)
    turn = torch.matrix_exp(a - a.mT)  # the exponential of a skew-symmetric matrix is a rotation
    scale = torch.exp(_uniform((b, 1, 1), -zoom, zoom, generator))
    offset = _uniform((b, d, 1), -2 * shift, 2 * shift, generator)  # grid_sample's coordinates run from -1 to 1
    grid = F.affine_grid(torch.cat([turn * scale, offset], 2), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _rescan(x: Tensor, generator: Generator, gamma: float = 0.18, bias: float = 0.15, noise: float = 0.05) -> Tensor:
    """Simulate another scanner: gamma, smooth multiplicative bias field and noise, drawn per image and channel.

    Input and output are about in [-1, 1].
    """
    b, c, *size = x.shape
    one = (b, c, *[1] * len(size))
    unit = ((x + 1) / 2).clamp(min=1e-4)
    unit = unit ** torch.exp(_uniform(one, -gamma, gamma, generator))
    coarse = torch.randn((b, c, *[3] * len(size)), generator=generator) * _uniform(one, 0, bias, generator)
    field = F.interpolate(coarse, size=size, mode={2: "bilinear", 3: "trilinear"}[len(size)], align_corners=True)
    grain = torch.randn(x.shape, generator=generator) * _uniform(one, 0, noise, generator)
    return 2 * unit * torch.exp(field) - 1 + grain
