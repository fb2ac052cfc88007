"""Differentially private SGD: each image's gradient is clipped, the sum gets noise, and an accountant says what it amounts to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.optim import Optimizer

from fedsynth.families import Family
from fedsynth.params import Training
from fedsynth.privacy import Mechanism, PrivacyError
from fedsynth.privacy.noise import ACCOUNTANTS, NoisyOptimizer, Spending, kept, one_of, positive, probability

Named = dict[str, Tensor]
Parameters = dict[str, nn.Parameter]


class DPSGD(Mechanism):
    """Abadi et al. 2016, arXiv:1607.00133, algorithm 1, with Opacus (arXiv:2109.12298): Poisson batches, clipping, Gaussian noise, RDP.

    The unit is one image. The noise is what keeps the *whole* training (rounds x steps at this site, rate batch / n) within `epsilon` at
    `delta`, by Opacus' `accountant`, "rdp" or the tighter "prv" (noise.Spending). Every private player of the family (`private_players`)
    is clipped to `max_grad_norm`; k of them on one batch are one Gaussian mechanism of k times the squared sensitivity, so each gets
    sqrt(k) the noise (where a family trains in phases, k of them in that phase). The other players see no real image, label or batch size
    at all. `at_once`: images whose gradients are in memory at a time.

    `delta` is the same at every site, so that one number stands for a model; 1e-5 is far below 1 / n of any hospital's images (at 1 / n,
    publishing one of them whole would count as private). 1 / n^1.1, another habit, is 0.02 at a site of 30 images.

    The noise and the batches come from the operating system's randomness, never from params.yaml's seed: who knows the seed could
    subtract the noise. Two trainings with the same params therefore differ.
    """

    unit = "image"

    def __init__(self, epsilon: float | None = None, delta: float = 1e-5, max_grad_norm: float = 1.0, at_once: int = 32,
                 accountant: str = "rdp"):  # fmt: skip
        self.epsilon = positive("epsilon", epsilon, "args: {epsilon: 8}, and less for more privacy")
        self.delta = probability(delta)
        self.max_grad_norm = positive("max_grad_norm", max_grad_norm, "1.0 for one")
        self.at_once = at_once
        self.accountant = one_of("accountant", accountant, ACCOUNTANTS)
        if not isinstance(at_once, int) or at_once < 1:
            raise PrivacyError(f"at_once is a number of images, at least 1, not {at_once}")
        self.noise = 0.0  # noise multiplier sigma; none is fitted yet
        self.spending = Spending(accountant=accountant)
        self.slow: set[str] = set()  # players whose losses torch.func cannot take

    def check(self, family: Family) -> None:
        private, players = family.private_players(), list(family.players())
        if not private or set(private) - set(players):
            raise PrivacyError(f"the private players of {type(family).__name__} are {list(private)}, its players are {players}")

    def protect(self, family: Family, optimizers: dict[str, Optimizer], training: Training, n: int, steps: int) -> None:
        self.check(family)
        if self.delta * n >= 1:
            raise PrivacyError(f"delta {self.delta:g} is not below 1 / n for this site's {n} images: it would let one of them out")
        self.family, self.optimizers, self.training, self.n, self.steps = family, optimizers, training, n, steps
        self.private = family.private_players()
        self.rate = min(1.0, training.batch / n)  # of an image to be in a batch
        self.random = np.random.default_rng()  # seeded by the operating system
        self.losses = _Loss(family)
        self.noisy = {
            name: NoisyOptimizer(optimizers[name], max_grad_norm=self.max_grad_norm, expected=self.rate * n, random=self.random)
            for name in self.private
        }

    def begin(self, number: int) -> None:
        """Keep the noise where the rest of the plan fits the budget; find another where a round is done a second time."""
        left = max(self.training.rounds - number, 1) * self.steps
        self.noise = kept(self.noise, self.spending, self.rate, left, self.epsilon, self.delta)
        stepping = set(self.private) & set(self.family.phase(number, self.training.rounds)[0].players)
        for optimizer in self.noisy.values():
            optimizer.noise_multiplier = self.noise * math.sqrt(len(stepping))

    def batches(self, steps: int) -> Iterator[Tensor]:
        for _ in range(steps):
            self.spending.add(self.noise, self.rate)
            yield torch.from_numpy(np.flatnonzero(self.random.random(self.n) < self.rate))

    def gradient(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> float | None:
        if player not in self.private:
            return self._public(player, x)
        optimizer = self.noisy[player]
        optimizer.zero_grad(set_to_none=True)
        for start in range(0, max(len(x), 1), self.at_once):
            some = slice(start, start + self.at_once)
            samples = self.samples(player, x[some], y[some], None if given is None else given[some])
            for parameter, sample in samples.items():
                parameter.grad_sample = sample  # type: ignore[attr-defined]
            optimizer.clip_and_accumulate()
        optimizer.add_noise()
        optimizer.scale_grad()
        for parameter in optimizer.params:  # nothing without noise outlives the step
            parameter.grad_sample = parameter.summed_grad = None  # type: ignore[attr-defined]
        return None

    def samples(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> dict[nn.Parameter, Tensor]:
        """By parameter of the player the gradients (B, *shape) of each image's own loss: that of a batch of it alone.

        All at once by torch.func; a loss that it cannot take (one that looks at values, or has a gradient in it) image by image.
        """
        own = set(self.family.players()[player].parameters())
        chosen = {name: p for name, p in self.losses.named_parameters() if p in own}
        if not len(x):
            return {p: p.new_zeros((0, *p.shape)) for p in chosen.values()}
        try:
            found = self._one_by_one(player, chosen, x, y, given) if player in self.slow else self._at_once(player, chosen, x, y, given)
        except RuntimeError:
            if player in self.slow:
                raise
            self.slow.add(player)
            return self.samples(player, x, y, given)
        # NaN of one image would be a mark that no noise covers
        return {p: found[name].nan_to_num(0.0, 0.0, 0.0) for name, p in chosen.items()}

    def _at_once(self, player: str, chosen: Parameters, x: Tensor, y: Tensor, given: Tensor | None) -> Named:
        def loss(parameters: Named, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
            alone = (player, x[None], y[None], None if given is None else given[None])
            with self._autocast(x):
                return functional_call(self.losses, parameters, alone)

        by_image = vmap(grad(loss), (None, 0, 0, None if given is None else 0), randomness="different")
        with torch.no_grad():  # of the other players; grad itself is not touched by it
            found: Named = by_image(chosen, x, y, given)  # type: ignore[arg-type]
            return found

    def _one_by_one(self, player: str, chosen: Parameters, x: Tensor, y: Tensor, given: Tensor | None) -> Named:
        gradients = []
        for i in range(len(x)):
            with self._autocast(x):
                loss = self.family.loss(player, x[i : i + 1], y[i : i + 1], None if given is None else given[i : i + 1])
            gradients.append(torch.autograd.grad(loss, list(chosen.values()), allow_unused=True, materialize_grads=True))
        return {name: torch.stack(of) for name, of in zip(chosen, zip(*gradients, strict=True), strict=True)}

    def _autocast(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.training.bf16, cache_enabled=False)

    def _public(self, player: str, x: Tensor) -> float:
        """The step of a player that needs no real image: it gets labels by chance, a whole batch, and randomness of its own.

        Real labels, the size of a Poisson batch or the random numbers that it has used up would leave through this player without noise.
        """
        torch.manual_seed(int(self.random.integers(2**63)))
        batch = self.training.batch
        y = torch.randint(int(self.family.labels), (batch,)).to(x.device)  # type: ignore[arg-type]
        with self._autocast(x):
            loss = self.family.loss(player, x.new_zeros((batch, *x.shape[1:])), y, None)
        self.optimizers[player].zero_grad(set_to_none=True)
        loss.backward(inputs=list(self.family.players()[player].parameters()))
        return float(loss.detach())

    def spent(self) -> float:
        return self.spending.epsilon(self.delta)

    def state(self) -> dict[str, Any]:
        return {"noise": self.noise, "history": self.spending.history}

    def load_state(self, state: dict[str, Any] | None, number: int) -> None:
        """Where nothing was kept, the rounds before count as this site's: nobody knows that they were not."""
        if state is None:
            self.begin(0)
            self.spending.add(self.noise, self.rate, number * self.steps)
        else:
            self.noise, self.spending = state["noise"], Spending(state["history"], self.accountant)


class _Loss(nn.Module):
    """A family's loss as a module's forward, which torch.func can call with other parameters."""

    def __init__(self, family: Family):
        super().__init__()
        self.family = family

    def forward(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        return self.family.loss(player, x, y, given)
