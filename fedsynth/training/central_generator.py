"""Training with a generator at the centre and discriminators at the sites (MD-GAN): both halves, without FLARE.

In each step, `Generating.draw` generates two batches for each site, each site's `Discriminating.step` learns from the
first and returns the gradient of the generator's loss at the images of the second, and `Generating.learn`
backpropagates these gradients through the generator. The family provides the images (`draw`), the generator's loss on
generated images (`fool`) and the discriminator's loss on real and generated ones (`tell`): fedsynth/families/gan.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from fedsynth.algorithms.mdgan import DISCRIMINATOR, GENERATOR, generators
from fedsynth.data.dataset import batches
from fedsynth.families import Family
from fedsynth.networks.device import device, moved, numbers
from fedsynth.networks.optimizer import LeanAdamW
from fedsynth.networks.precision import autocast, refuse_fp16
from fedsynth.params import Training
from fedsynth.training.schedules import Averaged, decay, mirror, rates

# two batches of generated images (2, B, C, *S) float32 and their classes (2, B) int64: algorithm 1's X^(d), which the
# discriminator learns from, and X^(g), at which it answers
Batch = tuple[np.ndarray, np.ndarray]


class _Half:
    """One player on this machine's device, its optimiser and the progress of the training; `steps` are per round."""

    def __init__(self, family: Family, player: str, training: Training, steps: int, seed: int):
        self.device = device()
        refuse_fp16(training, self.device, "MD-GAN sends gradients, which are not scaled for float16")
        self.family, self.training = family.to(self.device).train(), training
        players = family.players()
        self.net, self.rate = players[player], rates(training, players)[player]
        self.optimizer: Optimizer = LeanAdamW(
            self.net.parameters(), lr=self.rate, betas=training.betas, weight_decay=training.weight_decay
        )
        self.total, self.done = training.rounds * steps, 0
        self.generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)

    def autocast(self) -> torch.autocast:
        return autocast(self.training, self.device)

    def advance(self) -> None:
        """Step the optimiser with the current gradients, at the scheduled learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * decay(self.training, self.done / self.total)
        if self.training.clip:
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.training.clip)
        self.optimizer.step()


class Generating(_Half):
    """The centre's half: the generator.

    Every site gets its own batches, with its own class frequencies (as in Chang et al. 2020): a discriminator that has
    never seen a real image of a class would reject all images of that class.

    Args:
        steps: steps per round.
        weights: weight of each site's gradient.
        shares: for each site, how often each class is generated.
    """

    def __init__(self, family: Family, training: Training, steps: int, seed: int, weights: Mapping[str, float],
                 shares: Mapping[str, Collection[float]]):  # fmt: skip
        super().__init__(family, GENERATOR, training, steps, seed)
        self.sites = sorted(weights)
        total = sum(weights.values())
        self.weights = [weights[site] / total for site in self.sites]
        self.shares = torch.tensor([list(shares[site]) for site in self.sites], dtype=torch.float64)
        self.average = Averaged(self.family, training.ema) if training.ema else None

    def draw(self) -> dict[str, Batch]:
        """Generate two batches for each site. The gradients that come back are of the second one alone."""
        taught, judged = self._draw(), self._draw()
        with torch.no_grad(), self.autocast():
            first = self._images(*taught)
        with self.autocast():
            self.drawn = self._images(*judged)
        parts = [images.detach().cpu().numpy() for images in (first, self.drawn)]
        shape = (len(self.sites), self.training.batch, *self.drawn.shape[1:])
        images = np.stack([part.reshape(shape) for part in parts], 1)  # (sites, 2, B, C, *S)
        classes = torch.stack([taught[1], judged[1]], 1).numpy()
        return {site: (images[k], classes[k]) for k, site in enumerate(self.sites)}

    def _draw(self) -> tuple[Tensor, Tensor]:
        """Returns z (sites B, latent) and classes (sites, B)."""
        y = torch.multinomial(self.shares, self.training.batch, replacement=True, generator=self.generator)
        latent = int(self.family.latent)  # type: ignore[arg-type]
        return torch.randn((y.numel(), latent), generator=self.generator), y

    def _images(self, z: Tensor, y: Tensor) -> Tensor:
        made: Tensor = self.family.draw(moved(z, self.device), moved(y.flatten(), self.device), None)  # type: ignore[operator]
        return made

    def learn(self, feedback: Mapping[str, np.ndarray]) -> None:
        """Take an optimiser step with the sites' gradients, each of the shape of the second batch sent to that site.

        The gradient of sum_n w_n L_n is, by the chain rule, L_n's gradient F_n at site n's images times the derivative
        of these images with respect to the generator's parameters (Hardy et al. 2019, algorithm 1, where every w_n is 1
        / N). Sites without feedback do not count in this step.
        """
        there = {site: w for site, w in zip(self.sites, self.weights, strict=True) if site in feedback}
        total = 1.0 if len(there) == len(self.sites) else sum(there.values())
        nothing = np.zeros((self.training.batch, *self.drawn.shape[1:]), np.float32)
        slope = np.concatenate([there[s] / total * feedback[s] if s in there else nothing for s in self.sites])
        self.optimizer.zero_grad(set_to_none=True)
        self.drawn.backward(
            torch.from_numpy(slope.astype(np.float32)).to(self.device), inputs=list(self.net.parameters())
        )
        self.advance()
        self.done += 1
        if self.average is not None:
            self.average.update_parameters(self.family)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the generator's parameters by name; at the end of the training the averaged (EMA) ones."""
        model = self.average.module if self.average is not None and self.done >= self.total else self.family
        return {name: p.detach().float().cpu().numpy().copy() for name, p in generators(model).items()}


class Discriminating(_Half):
    """A site's half: its discriminator and its real images.

    x (N, C, *S) are the images, y (N,) their classes; the discriminator takes `repeats` steps per exchange.
    """

    def __init__(
        self, family: Family, training: Training, steps: int, seed: int, x: Tensor, y: Tensor, repeats: int = 1
    ):
        super().__init__(family, DISCRIMINATOR, training, steps, seed)
        self.x, self.y, self.repeats = x, y, repeats
        self.places = batches(len(x), training.batch, self.total * repeats, self.generator)
        self.losses: dict[str, list[Tensor]] = defaultdict(list)

    def step(self, images: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """Train on the first batch of images (2, B, C, *S) generated for the classes `asked` (2, B).

        Returns F_n = dL_n / d images (B, C, *S) at the second batch, with the discriminator after its steps: at images
        that it has just learned to reject its gradients would be larger than at others of the same generator.
        """
        (taught, drawn), (of_taught, classes) = (
            torch.from_numpy(np.array(of)).to(self.device) for of in (images, asked)
        )
        for _ in range(self.repeats):
            self._tell(taught, of_taught)
        drawn.requires_grad_()
        with self.autocast():
            loss = self.family.fool(drawn, classes)  # type: ignore[operator]
        (slope,) = torch.autograd.grad(loss, drawn)
        self.losses[GENERATOR].append(loss.detach())
        self.done += 1
        return np.asarray(slope.float().cpu().numpy())

    def _tell(self, drawn: Tensor, classes: Tensor) -> None:
        places = next(self.places)
        x = moved(mirror(self.x[places], self.training.flip, self.generator), self.device)
        with self.autocast():
            loss = self.family.tell(x, moved(self.y[places], self.device), drawn, classes)  # type: ignore[operator]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward(inputs=list(self.net.parameters()))
        self.advance()
        self.losses[DISCRIMINATOR].append(loss.detach())

    def means(self) -> dict[str, float]:
        """Returns the mean losses of the steps since the last call."""
        found = {name: float(np.mean(numbers(of))) for name, of in self.losses.items()}
        self.losses.clear()
        return found
