"""DP-SGD: per-unit gradient clipping, Gaussian noise, and an accountant."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.optim import Optimizer

from fedsynth.families import Family, trainable
from fedsynth.networks.device import moved
from fedsynth.networks.precision import autocast, refuse_fp16
from fedsynth.params import Training
from fedsynth.privacy import Mechanism, PrivacyError
from fedsynth.privacy.noise import (
    ACCOUNTANTS,
    NoisyOptimizer,
    Spending,
    Step,
    fitting,
    kept,
    one_of,
    positive,
    possible,
    probability,
)

Named = dict[str, Tensor]
Parameters = dict[str, nn.Parameter]
Gradients = dict[nn.Parameter, Tensor]
UNITS = ("image", "subject")


class DPSGD(Mechanism):
    """DP-SGD (Abadi et al. 2016, arXiv:1607.00133, algorithm 1) with Opacus (arXiv:2109.12298).

    Batches are Poisson samples; per-unit gradients are clipped and get Gaussian noise. The noise keeps the *whole*
    training (rounds x steps at this site, sampling rate batch / n) within `epsilon` at `delta`. The gradient of every
    private player (`private_players`) is clipped to `max_grad_norm`. k players on one batch are one Gaussian mechanism
    with k times the squared sensitivity, so each gets sqrt(k) times the noise (k counts the players of the current
    phase). The other players use no real image, label or batch size.

    With the unit "subject", the default, subjects are sampled, and the mean gradient of a subject's images is clipped
    (Charles et al. 2024, arXiv:2407.07737, DP-SGD-ULS). If each subject has one image, both units are the same. With
    the unit "image", a subject with k images is protected less (fedsynth/privacy/subject.py computes how much).
    Epsilon compares a set with and without one unit; the number of images is public (docs/privacy.md).

    `delta` is the same at every site, so that one number describes a model. 1e-5 is far below 1 / n for any hospital
    (at 1 / n, publishing one image entirely would count as private); 1 / n^1.1, which is also used, is 0.02 at a site
    of 30 images.

    Noise and batches use the operating system's randomness and not the seed of params.yaml: anyone who knows the seed
    could subtract the noise. Two trainings with the same params therefore differ.

    Args:
        accountant: Opacus' "rdp" or the tighter "prv" (see noise.Spending).
        unit: "subject" with all of their images at the site, or "image".
        images_per_subject: with the unit "subject", the largest number of a subject's images per step; subjects with
            more get a new random choice at each step.
        at_once: number of images whose gradients are in memory at the same time, fewer with `training.accumulate`.

    Raises PrivacyError for invalid arguments.
    """

    relation = "add_remove"

    def __init__(self, epsilon: float | None = None, delta: float = 1e-5, max_grad_norm: float = 1.0, at_once: int = 32,
                 accountant: str = "rdp", unit: str = "subject", images_per_subject: int | None = None):  # fmt: skip
        self.epsilon = positive("epsilon", epsilon, "args: {epsilon: 8}, and less for more privacy")
        self.delta = probability(delta)
        self.max_grad_norm = positive("max_grad_norm", max_grad_norm, "1.0 for one")
        self.at_once = at_once
        self.accountant = one_of("accountant", accountant, ACCOUNTANTS)
        self.unit, self.images_per_subject = one_of("unit", unit, UNITS), images_per_subject
        for name, images in {
            "at_once": at_once,
            "images_per_subject": 1 if images_per_subject is None else images_per_subject,
        }.items():
            if not isinstance(images, int) or images < 1:
                raise PrivacyError(f"{name} is a number of images, at least 1, not {images}")
        if unit != "subject" and images_per_subject is not None:
            raise PrivacyError(f"images_per_subject goes with `unit: subject`, not with {unit!r}")
        self.noise = 0.0  # noise multiplier sigma; not fitted yet
        self.spending = Spending(accountant=accountant)
        self.sizes: list[int] = []  # number of images of each unit of the batch, in order
        self.slow: set[str] = set()  # players whose loss torch.func does not support

    def check(self, family: Family) -> None:
        possible(self.epsilon, self.delta, self.accountant)
        private, players = family.private_players(), list(family.players())
        if not private or set(private) - set(players):
            raise PrivacyError(
                f"the private players of {type(family).__name__} are {list(private)}, its players are {players}"
            )

    def protect(self, family: Family, optimizers: dict[str, Optimizer], training: Training, n: int, steps: int,
                subjects: Tensor | None = None, rate: float | None = None) -> None:  # fmt: skip
        self.check(family)
        self.units = self._units(n, subjects)
        if self.delta * len(self.units) >= 1:
            raise PrivacyError(
                f"delta {self.delta:g} is not below 1 / n for this site's {len(self.units)} {self.unit}s: it would let"
                " one of them out"
            )
        self.family, self.optimizers, self.training, self.n, self.steps = family, optimizers, training, n, steps
        self.private = family.private_players()
        why = "DP-SGD cannot leave out the steps in which float16 overflows, because that would tell of the images"
        refuse_fp16(training, next(family.parameters()).device, why)
        parts = training.accumulate
        self.most = self.at_once if parts == 1 else min(self.at_once, math.ceil(training.batch / parts))
        self.rate = training.rate(n) if rate is None else rate
        self.random = np.random.default_rng()  # seeded by the operating system
        self.losses = _Loss(family)
        expected = self.rate * len(self.units)
        self.noisy = {
            name: NoisyOptimizer(
                optimizers[name], max_grad_norm=self.max_grad_norm, expected=expected, random=self.random
            )
            for name in self.private
            if name in optimizers  # not of a player that is frozen as a whole
        }

    def plan(self, training: Training, n: int, number: int = 0, spent: Sequence[Step] = ()) -> Step:
        rate, steps = training.rate(n), max(training.rounds - number, 1) * training.steps(n)
        return fitting(Spending(spent, self.accountant), rate, steps, self.epsilon, self.delta), rate, steps

    def _units(self, n: int, subjects: Tensor | None) -> list[np.ndarray]:
        """Returns the indices of each unit's images."""
        if self.unit == "image":
            return list(np.arange(n).reshape(n, 1))
        if subjects is None or len(subjects) != n:
            raise PrivacyError(
                "`unit: subject` needs to know whose the images are, and nobody has said; give the trainer `subjects`,"
                " or take `unit: image`"
            )
        _, sizes = np.unique(subjects.numpy(), return_counts=True)
        return np.split(np.argsort(subjects.numpy(), kind="stable"), np.cumsum(sizes)[:-1])

    def begin(self, number: int) -> None:
        """Keep the noise if the remaining rounds fit the budget with it; refit it if a round is repeated."""
        left = max(self.training.rounds - number, 1) * self.steps
        self.noise = kept(self.noise, self.spending, self.rate, left, self.epsilon, self.delta)
        stepping = self.noisy.keys() & set(self.family.phase(number, self.training.rounds)[0].players)
        for optimizer in self.noisy.values():
            optimizer.noise_multiplier = self.noise * math.sqrt(len(stepping))

    def batches(self, steps: int) -> Iterator[Tensor]:
        for _ in range(steps):
            self.spending.add(self.noise, self.rate)
            chosen = np.flatnonzero(self.random.random(len(self.units)) < self.rate)
            drawn = [self._drawn(self.units[unit]) for unit in chosen]
            self.sizes = [len(places) for places in drawn]
            yield torch.from_numpy(np.concatenate([np.empty(0, np.int64), *drawn]))

    def _drawn(self, places: np.ndarray) -> np.ndarray:
        most = self.images_per_subject
        return places if most is None or len(places) <= most else self.random.choice(places, most, replace=False)

    def gradient(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor | None:
        if player not in self.private:
            return self._public(player, x)
        optimizer = self.noisy[player]
        optimizer.zero_grad(set_to_none=True)
        for means in self.by_unit(player, x, y, given):
            for parameter, mean in means.items():
                parameter.grad_sample = mean  # type: ignore[attr-defined]
            optimizer.clip_and_accumulate()
        optimizer.add_noise()
        optimizer.scale_grad()
        for parameter in optimizer.params:  # no gradient without noise is kept after the step
            parameter.grad_sample = parameter.summed_grad = None  # type: ignore[attr-defined]
        return None

    def by_unit(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Iterator[Gradients]:
        """Yield by parameter the mean gradients (U, *shape) of a few units of the batch at a time.

        Yields once for an empty batch. Non-finite values become 0: in one unit's gradient they would be visible through
        any noise.
        """
        start = 0
        for sizes in together(self.sizes if self.unit == "subject" else [1] * len(x), self.most):
            # the index in `sizes` of each image's unit
            owner = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes, dtype=torch.long))
            means: Gradients = {}
            for part in owner.split(self.most):
                some = slice(start, start + len(part))
                found = self.samples(player, x[some], y[some], None if given is None else given[some])
                means = found if len(sizes) == len(owner) else _added(means, found, part, sizes)
                start = some.stop
            yield {p: mean.nan_to_num(0.0, 0.0, 0.0) for p, mean in means.items()}

    def samples(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Gradients:
        """Returns by parameter the per-image gradients (B, *shape), each of the loss of a batch of that image alone.

        They are computed together by torch.func, or image by image for a loss that it does not support (one that
        depends on values or contains a gradient).
        """
        own = set(trainable(self.family.players()[player]))
        chosen = {name: p for name, p in self.losses.named_parameters() if p in own}
        if not len(x):
            return {p: p.new_zeros((0, *p.shape)) for p in chosen.values()}
        try:
            found = (
                self._one_by_one(player, chosen, x, y, given)
                if player in self.slow
                else self._at_once(player, chosen, x, y, given)
            )
        except RuntimeError:
            if player in self.slow:
                raise
            self.slow.add(player)
            return self.samples(player, x, y, given)
        return {p: found[name] for name, p in chosen.items()}

    def _at_once(self, player: str, chosen: Parameters, x: Tensor, y: Tensor, given: Tensor | None) -> Named:
        def loss(parameters: Named, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
            alone = (player, x[None], y[None], None if given is None else given[None])
            with self._autocast(x):
                return functional_call(self.losses, parameters, alone)

        by_image = vmap(grad(loss), (None, 0, 0, None if given is None else 0), randomness="different")
        with torch.no_grad():  # no graph for the other players; torch.func.grad is not affected
            found: Named = by_image(chosen, x, y, given)  # type: ignore[arg-type]
            return found

    def _one_by_one(self, player: str, chosen: Parameters, x: Tensor, y: Tensor, given: Tensor | None) -> Named:
        gradients = []
        for i in range(len(x)):
            with self._autocast(x):
                loss = self.family.loss(player, x[i : i + 1], y[i : i + 1], None if given is None else given[i : i + 1])
            gradients.append(
                torch.autograd.grad(loss, list(chosen.values()), allow_unused=True, materialize_grads=True)
            )
        return {name: torch.stack(of) for name, of in zip(chosen, zip(*gradients, strict=True), strict=True)}

    def _autocast(self, x: Tensor) -> torch.autocast:
        return autocast(self.training, x.device, cache_enabled=False)

    def _public(self, player: str, x: Tensor) -> Tensor:
        """Compute the gradient of a player that needs no real images; returns its loss.

        It gets random labels, a full batch and its own random numbers. Real labels, the size of a Poisson batch or the
        number of random values drawn would otherwise leave the site through this player without noise.
        """
        torch.manual_seed(int(self.random.integers(2**63)))
        batch = self.training.batch
        labels = moved(torch.randint(int(self.family.labels), (batch,)), x.device)  # type: ignore[arg-type]
        self.optimizers[player].zero_grad(set_to_none=True)
        total = x.new_zeros(())
        for y in labels.tensor_split(min(self.training.accumulate, batch)):
            with self._autocast(x):
                loss = self.family.loss(player, x.new_zeros((len(y), *x.shape[1:])), y, None)
            loss = len(y) / batch * loss
            loss.backward(inputs=trainable(self.family.players()[player]))
            total += loss.detach()
        return total

    def load_state(self, state: dict[str, Any] | None, number: int) -> None:
        """If no state was kept, count all earlier rounds as spent: the site may have taken part in them."""
        if state is None:
            self.begin(0)
            self.spending.add(self.noise, self.rate, number * self.steps)
        else:
            self.noise, self.spending = state["noise"], Spending(state["history"], self.accountant)


def together(sizes: list[int], most: int) -> Iterator[list[int]]:
    """Split the sizes, in order, into groups of at most `most` images in total; a larger one is alone.

    Yields one empty group if there are no sizes.
    """
    some: list[int] = []
    for size in sizes:
        if some and sum(some) + size > most:
            yield some
            some = []
        some.append(size)
    yield some


def _added(means: Gradients, found: Gradients, owner: Tensor, sizes: list[int]) -> Gradients:
    """Add gradients of images (B, *shape) to the means (U, *shape) of their units."""
    device = next(iter(found)).device
    share, owner = moved(1 / torch.tensor(sizes)[owner], device), moved(owner, device)
    for p, sample in found.items():
        mean = means.setdefault(p, p.new_zeros((len(sizes), *p.shape)))
        mean.index_add_(0, owner, sample * share.reshape(-1, *[1] * p.dim()))
    return means


class _Loss(nn.Module):
    """A family's loss as the forward of a module, which torch.func can call with other parameters."""

    def __init__(self, family: Family):
        super().__init__()
        self.family = family

    def forward(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        return self.family.loss(player, x, y, given)
