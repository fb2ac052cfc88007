"""Training with a generator at the centre and discriminators at the sites (MD-GAN): both halves, without FLARE.

In each step, `Generating.draw` generates a batch for each site, each site's `Discriminating.step` returns the gradient
of the generator's loss at the images it received, and `Generating.learn` backpropagates these gradients through the
generator. The family provides the images (`draw`), the generator's loss on generated images (`fool`) and the
discriminator's loss on real and generated ones (`tell`): fedsynth/families/gan.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from fedsynth.algorithms.mdgan import DISCRIMINATOR, GENERATOR, generators
from fedsynth.data.dataset import batches
from fedsynth.families import Family
from fedsynth.networks.optimizer import LeanAdamW
from fedsynth.networks.precision import autocast
from fedsynth.params import Training
from fedsynth.training.schedules import averaging, decay, mirror, rates

# generated images (B, C, *S) float32 and their classes (B,) int64
Batch = tuple[np.ndarray, np.ndarray]


class _Half:
    """One player on this machine's device, its optimiser and the progress of the training; `steps` are per round."""

    def __init__(self, family: Family, player: str, training: Training, steps: int, seed: int):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
        self.average = AveragedModel(self.family, multi_avg_fn=averaging(training.ema)) if training.ema else None

    def draw(self) -> dict[str, Batch]:
        """Generate a batch for each site."""
        b = self.training.batch
        y = torch.multinomial(self.shares, b, replacement=True, generator=self.generator)  # (sites, B)
        z = torch.randn((y.numel(), int(self.family.latent)), generator=self.generator)  # type: ignore[arg-type]
        with self.autocast():
            labels = y.flatten().to(self.device)
            self.drawn: Tensor = self.family.draw(z.to(self.device), labels, None)  # type: ignore[operator]
        images = self.drawn.detach().cpu().numpy().reshape(len(self.sites), b, *self.drawn.shape[1:])
        return {site: (images[k], y[k].numpy()) for k, site in enumerate(self.sites)}

    def learn(self, feedback: Mapping[str, np.ndarray]) -> None:
        """Take an optimiser step with the sites' gradients, each of the shape of the images sent to that site.

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
        self.losses: dict[str, list[float]] = defaultdict(list)

    def step(self, images: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """Train on images generated for the classes `asked` and return F_n = dL_n / d images, of the images' shape.

        The gradient is taken with the discriminator after its steps.
        """
        drawn, classes = (
            torch.from_numpy(np.array(images)).to(self.device),
            torch.from_numpy(np.array(asked)).to(self.device),
        )
        for _ in range(self.repeats):
            self._tell(drawn, classes)
        drawn.requires_grad_()
        with self.autocast():
            loss = self.family.fool(drawn, classes)  # type: ignore[operator]
        (slope,) = torch.autograd.grad(loss, drawn)
        self.losses[GENERATOR].append(float(loss.detach()))
        self.done += 1
        return np.asarray(slope.float().cpu().numpy())

    def _tell(self, drawn: Tensor, classes: Tensor) -> None:
        places = next(self.places)
        x = mirror(self.x[places], self.training.flip, self.generator).to(self.device)
        with self.autocast():
            loss = self.family.tell(x, self.y[places].to(self.device), drawn, classes)  # type: ignore[operator]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward(inputs=list(self.net.parameters()))
        self.advance()
        self.losses[DISCRIMINATOR].append(float(loss.detach()))

    def means(self) -> dict[str, float]:
        """Returns the mean losses of the steps since the last call."""
        found = {name: float(np.mean(of)) for name, of in self.losses.items()}
        self.losses.clear()
        return found
