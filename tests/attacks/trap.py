"""Crafted weights: a hostile centre makes single images come back from an honest training of the VAE.

The convolutions of the encoder are set to hand the first image channel on unchanged (Boenisch et al. 2021,
arXiv:2112.02918, section 5.3), so that the linear layer behind them sees it whole. A row of that layer's log-variance
learns from an image only while it lies inside the clamp (-12, 4): outside its gradient is exactly 0. Rows are scaled so
that few images fall inside, by a random direction each ("trap weights", section 5.1), or by one direction cut into bins
("imprint": Fowl et al. 2022, arXiv:2110.13057, section 4). The difference of such a row is the image.

Against the optimiser: the bias of the means is set to 1e9, so that the gradient is huge and `clip` scales all of it
down; AdamW then works on the row in the range where its step is proportional to the gradient (|g| far below 1e-8), and
the sum over all steps of a round stays a sum of images. Everything else is scaled up, so that a round cannot move it.

Legend: L latent · J features of one position, K positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fedsynth.families.vae import VAE
from fedsynth.hospital.policy.drift import norm
from fedsynth.params import Params
from nvflare_jobs.train import job as training
from tests.attacks.hospital import Arrays, Hospital, no_policy

LAST_ANCHOR, SHIFT = 2.0, 3.0
ROWS = "autoencoder.encoder.out.weight"
LOW, HIGH = -12.0, 4.0  # between which the family clamps a log-variance


class Force(NamedTuple):
    """How large the crafted numbers are: of the convolutions, of the means' bias, of the features that hold pixels."""

    strong: float = 1e4
    huge: float = 1e9
    pixels: float = 1.0
    limit: float = 1e9  # largest number in the rows that open
    anchor: float = 30.0  # of the constants that fix a norm's statistics, in values of an image


STRONG = Force()
GENTLE = Force(1.0, 0.0, 1e-4, 100.0)  # no number above 100, and no clip is needed
PATIENT = Force(1e4, 0.0, 1.0)  # against DP-SGD: nothing but the opened rows has a gradient
DRIFTING = Force(1.0, 0.0, 1.0, 30.0, 8.0)  # near to the weights that a study begins with


@dataclass
class Layout:
    """Which of the last level's channels carry pixels, anchors and the features that open the gate."""

    pixels: list[int]  # in the order of `folded`
    plus: list[int]  # by channel of `pixels`: its group's positive and negative anchor
    minus: list[int]
    gate: list[int]


def crafted(family: VAE, generator: torch.Generator, force: Force) -> Layout:
    """Set the family's parameters; returns where in the features of the encoder's last layer the image is."""
    layout = Layout([], [], [], [])
    with torch.no_grad():
        for name, parameter in family.named_parameters():
            if "decoder" in name:
                parameter.zero_()
        family.autoencoder["decoder"].out.conv.bias.fill_(
            min(20.0, force.limit)
        )  # tanh' is 0: no gradient reaches the decoder
        encoder = family.autoencoder["encoder"]
        encoder.out.weight.zero_()
        encoder.out.bias.zero_()
        encoder.out.bias[: family.latent] = force.huge
        carried = [(k, 1.0, 0.0) for k in range(family.patch**2)]  # the first channel's pixels: (place, scale, shift)
        for level, block in enumerate(encoder.blocks):
            if level < len(encoder.blocks) - 1:
                carried = _pairs(block, carried, 1 if level == 0 else 2, force)
            else:
                _last(block, carried, 1 if level == 0 else 2, layout, generator, force)
    return layout


def _folded(carried: list[tuple[int, float, float]], stride: int) -> list[tuple[int, int, int, float, float]]:
    """The channels after a convolution with this stride, each of one pixel of its window: (from, row, column, …)."""
    taps = [(1, 1)] if stride == 1 else [(1, 1), (1, 2), (2, 1), (2, 2)]
    return [(place, i, j, scale, shift) for place, scale, shift in carried for i, j in taps]


def _cleared(block: nn.Module) -> tuple[Tensor, Tensor, nn.GroupNorm]:
    conv, norm = block.conv, block.adn.N  # type: ignore[union-attr]
    conv.weight.zero_()
    conv.bias.zero_()
    norm.bias.zero_()
    return conv.weight, conv.bias, norm  # type: ignore[return-value]


def _pairs(block: nn.Module, carried: list, stride: int, force: Force) -> list[tuple[int, float, float]]:
    """Each group holds pixels x and -x and two large constants: its mean is 0 and its deviation the constants'."""
    weight, bias, norm = _cleared(block)
    each = weight.shape[0] // norm.num_groups
    wanted, out = _folded(carried, stride), []
    room = [(g * each + 2 + 2 * k, g) for k in range((each - 2) // 2) for g in range(norm.num_groups)]
    if len(wanted) > len(room):
        raise ValueError(f"{len(wanted)} pixels of a position do not fit into {weight.shape[0]} channels")
    for g in range(norm.num_groups):
        bias[g * each], bias[g * each + 1] = (
            force.strong * carried[0][1] * force.anchor,
            -force.strong * carried[0][1] * force.anchor,
        )
    for (place, i, j, _, shift), (channel, _) in zip(wanted, room, strict=False):
        for sign, at in ((1, channel), (-1, channel + 1)):
            weight[at, place, i, j] = sign * force.strong
            bias[at] = -sign * force.strong * shift
        norm.weight[channel] = force.strong * force.anchor * (2 / each) ** 0.5
        norm.bias[channel] = force.strong * SHIFT
        out.append((channel, force.strong, force.strong * SHIFT))
    return out


def _last(
    block: nn.Module, carried: list, stride: int, layout: Layout, generator: torch.Generator, force: Force
) -> None:
    """Each group holds pixels, two anchors by which its mean and deviation are solved for, and gates' features."""
    weight, bias, norm = _cleared(block)
    each, wanted = weight.shape[0] // norm.num_groups, _folded(carried, stride)
    per = -(-len(wanted) // norm.num_groups)
    if per + 3 > each:
        raise ValueError(f"{len(wanted)} pixels of a position do not fit into {weight.shape[0]} channels")
    norm.weight.fill_(force.strong * force.pixels)
    norm.bias.fill_(5 * force.strong * force.pixels)
    for g in range(norm.num_groups):
        plus, minus = g * each, g * each + 1
        bias[plus], bias[minus] = (
            force.strong * carried[0][1] * LAST_ANCHOR,
            -force.strong * carried[0][1] * LAST_ANCHOR,
        )
        for k, (place, i, j, _, shift) in enumerate(wanted[g * per : (g + 1) * per]):
            at = g * each + 2 + k
            weight[at, place, i, j], bias[at] = force.strong, -force.strong * shift
            layout.pixels.append(at)
            layout.plus.append(plus)
            layout.minus.append(minus)
        for at in range(g * each + 2 + per, (g + 1) * each):
            layout.gate.append(at)
            norm.weight[at], norm.bias[at] = force.strong, 5 * force.strong
            for place, _, shift in carried:
                kernel = torch.randn(3, 3, generator=generator) * 0.2
                weight[at, place] = force.strong * kernel
                bias[at] -= force.strong * shift * kernel.sum()


def features(family: VAE, x: Tensor, y: Tensor) -> Tensor:
    """Returns the inputs (B, J, K) of the encoder's last layer."""
    seen = []
    hook = family.autoencoder["encoder"].out.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        family.encode(x, y, None)
    hook.remove()
    return seen[0].unflatten(1, (family.channels[-1], -1))


def gates(
    family: VAE,
    layout: Layout,
    public: Tensor,
    y: Tensor,
    number: int,
    rounds: int,
    imprint: bool,
    seed: int,
    force: Force,
) -> None:
    """Set the rows of the log-variances for one round, by quantiles of the centre's own images `public` (N, C, H, W).

    Trap: each row opens for the largest values of a random direction. Imprint: each for one bin of a common direction;
    the bins of all rounds together are as many as rounds x latent.
    """
    opened = features(family, public, y)[:, layout.gate].flatten(1).double() / force.strong
    random = np.random.default_rng([seed, 0 if imprint else number])
    count, out = family.latent, family.autoencoder["encoder"].out
    towards = random.standard_normal((1 if imprint else count, opened.shape[1])) / opened.shape[1] ** 0.5
    towards -= towards.mean(1, keepdims=True)  # the features share a large constant
    value = opened.numpy() @ towards.T  # (N, 1 or L)
    with torch.no_grad():
        weight = torch.zeros(2 * count, family.channels[-1], features(family, public[:1], y[:1]).shape[2])
        for row in range(count):
            h = value[:, 0 if imprint else row]
            edges = np.quantile(h, _bin(number, row, rounds, count, imprint))
            low, high = edges if imprint else (edges[0], edges[0] + 2 * (h.max() - edges[0]) + 1e-6)
            largest = max(float(np.abs(towards).max()) / force.strong, abs(low))
            scale = min((HIGH - LOW) / max(high - low, 1e-9), (force.limit + LOW) / max(largest, 1e-9))
            direction = torch.from_numpy(towards[0 if imprint else row]).reshape(len(layout.gate), -1)
            weight[count + row, layout.gate] = (scale * direction / force.strong).float()
            out.bias[count + row] = LOW - scale * low
        out.weight.copy_(weight.flatten(1))


def _bin(number: int, row: int, rounds: int, count: int, imprint: bool) -> list[float]:
    if not imprint:
        return [0.99, 1.0]
    place = row * rounds + number  # neighbouring bins in different rounds
    return [place / (rounds * count), (place + 1) / (rounds * count)]


def reconstructions(family: VAE, layout: Layout, difference: Arrays, per: np.ndarray | float = 1.0) -> np.ndarray:
    """Returns the first channel (R, 1, H, W) as each row of the log-variances has it; NaN where it saw no image.

    `per` (L, J, K): by how much more than in proportion to its feature each number of the rows moves.
    """
    rows = difference[ROWS].astype(np.float64)[family.latent :]
    rows = rows.reshape(len(rows), family.channels[-1], -1)
    with np.errstate(all="ignore"):
        rows = rows / per
        pixels, plus, minus = (rows[:, of] for of in (layout.pixels, layout.plus, layout.minus))
        x = 2 * LAST_ANCHOR * (pixels - minus) / (plus - minus) - LAST_ANCHOR
    base = [s // (family.patch * 2 ** (len(family.channels) - 1)) for s in family.size]
    return unfolded(x.reshape(len(rows), -1, *base), family.patch, len(family.channels) - 1)


def unfolded(x: np.ndarray, patch: int, halvings: int) -> np.ndarray:
    """Undo the order of `_folded` and of the pixel unshuffle: (R, patch² 4^halvings, *S) -> (R, 1, H, W)."""
    for _ in range(halvings):
        r, c, h, w = x.shape
        x = x.reshape(r, c // 4, 2, 2, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(r, c // 4, 2 * h, 2 * w)
    r, _, h, w = x.shape
    return x.reshape(r, patch, patch, h, w).transpose(0, 3, 1, 4, 2).reshape(r, 1, h * patch, w * patch)


def attack(
    hospital: Hospital, params: Params, imprint: bool = True, seed: int = 0, force: Force = STRONG
) -> np.ndarray:
    """Returns reconstructions (R, 1, H, W) of the first channel, for each row of each round."""
    asked = Asked(hospital, params, seed, force)
    rounds = params.models["attacked"].training.rounds
    answers = hospital.train(params, (asked.opened(number, rounds, imprint) for number in range(rounds)))
    return np.concatenate([reconstructions(asked.family, asked.layout, answer) for answer in answers])


def patient(hospital: Hospital, params: Params, seed: int = 0, force: Force = DRIFTING, lead: int = 6) -> np.ndarray:
    """As `attack` by imprint, of a hospital that holds how weights begin and move (fedsynth/hospital/policy/drift.py).

    The first `lead` rounds lead from the weights of the study's seed to the crafted ones, and let what the optimiser
    remembers fade. AdamW then divides each number's gradient by what it has seen of it in these rounds. The next round
    opens all rows for all images: the difference over the features' mean, which the centre's own images give, is that
    divisor.
    """
    asked, rounds = Asked(hospital, params, seed, force), params.models["attacked"].training.rounds
    floors = (hospital.held or no_policy()).floors

    def weights() -> Iterator[Arrays]:
        now = training.begin(params, "attacked")
        yield now
        for number in range(1, rounds):
            wanted = asked.all_open() if number <= lead else asked.opened(number - lead - 1, rounds - lead - 1, True)
            largest = max(norm(message.params) for message in hospital.sent)
            now = _towards(now, wanted, float("inf") if floors.moved is None else 0.999 * floors.moved * largest)
            yield now

    answers = hospital.train(params, weights())
    per = answers[lead][ROWS].astype(np.float64)[asked.family.latent :] / asked.mean().flatten()
    per = per.reshape(asked.family.latent, asked.family.channels[-1], -1)
    return np.concatenate([reconstructions(asked.family, asked.layout, a, per) for a in answers[lead + 1 :]])


class Asked:
    """The crafted family, and the centre's own images by which its gates are set."""

    def __init__(self, hospital: Hospital, params: Params, seed: int, force: Force):
        self.family: VAE = params.models["attacked"].family.build(**params.image.context())
        self.layout, self.seed, self.force = (
            crafted(self.family, torch.Generator().manual_seed(seed), force),
            seed,
            force,
        )
        own, image = hospital.public, params.image
        x, y = torch.from_numpy(own.channels(image, image.generated)), torch.from_numpy(own.condition_labels(image))
        self.x, self.y = torch.cat([x, x.flip(3)]), torch.cat([y, y])

    def opened(self, number: int, rounds: int, imprint: bool) -> Arrays:
        gates(self.family, self.layout, self.x, self.y, number, rounds, imprint, self.seed, self.force)
        return self._arrays()

    def all_open(self) -> Arrays:
        out = self.family.autoencoder["encoder"].out
        with torch.no_grad():
            out.weight.zero_()
            out.bias[self.family.latent :] = LOW / 3
        return self._arrays()

    def mean(self) -> np.ndarray:
        """Returns the mean features (J, K) of the centre's own images."""
        return features(self.family, self.x, self.y).double().mean(0).numpy()

    def _arrays(self) -> Arrays:
        return {name: p.detach().numpy().copy() for name, p in self.family.named_parameters()}


def _towards(now: Arrays, wanted: Arrays, most: float) -> Arrays:
    """Returns weights on the way from `now` to `wanted`, at most `most` from `now` (L2)."""
    step = {name: wanted[name].astype(np.float64) - now[name] for name in wanted}
    share = min(1.0, most / max(norm(step), 1e-12))
    return wanted if share == 1 else {n: (now[n] + share * of).astype(np.float32) for n, of in step.items()}
