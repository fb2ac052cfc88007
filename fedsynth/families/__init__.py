"""Kinds of generative model. A family is its players, a loss for each, and a sampler; one loop
(fedsynth/training/trainer.py) trains them all.

Legend: B batch · C generated channels · G given channels · *S spatial size, (H, W) or (D, H, W) · float32 in [-1, 1].

A new family is one file here and one block of params.yaml. Its constructor may ask by name for what the project knows:
`generated` (C), `given` (G), `labels` (number of classes) and `size` (*S); all else are its own arguments. Constructor
arguments become attributes of the same name. No BatchNorm: running statistics average badly and break SCAFFOLD and
DP-SGD.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fedsynth.errors import UserError


class Phase(NamedTuple):
    """A `share` of a training's rounds in which some `players` step and the others rest.

    `view`, of images and given channels of a batch: what the players' losses take in their place. It is computed once a
    round of every image, mirrored at random.
    """

    share: float
    players: tuple[str, ...]
    view: Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None]] | None = None


class Family(nn.Module, ABC):
    has_error = False  # whether `error` says anything
    released: frozenset[str] | None = None  # names of the parameters that were trained and given out; None: all
    personal: tuple[str, ...] = ()  # names of parameters that never leave a site, whatever the algorithm
    deterministic = False  # whether there is but one image for a label and given channels

    @abstractmethod
    def players(self) -> dict[str, nn.Module]:
        """The networks that take turns, in the order in which they step; their parameters do not overlap."""

    @abstractmethod
    def loss(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """A scalar for one player to lower. x (B, C, *S) generated channels, y (B,) labels, given (B, G,
        *S) or None.
        """

    def phases(self) -> list[Phase]:
        """Who steps when, one phase after the other, the shares together 1. By default all players in all rounds."""
        return [Phase(1.0, tuple(self.players()))]

    def phase(self, number: int, rounds: int) -> tuple[Phase, int, int]:
        """The phase of round `number` (from 0) of `rounds`, its first round and the one after its last. Each has a
        round at least.
        """
        phases = self.phases()
        if rounds < len(phases):
            raise UserError(
                f"training.rounds is {rounds}; {type(self).__name__} trains in {len(phases)} phases, so it must be more"
            )
        ends = [round(share * rounds) for share in accumulate(phase.share for phase in phases)]
        first = 0
        for place, phase in enumerate(phases):
            end = min(max(ends[place], first + 1), rounds - (len(phases) - 1 - place))
            if number < end or place == len(phases) - 1:
                return phase, first, end
            first = end
        raise AssertionError("the last phase has no end")

    def private_players(self) -> tuple[str, ...]:
        """The players whose loss looks at real images, at their given channels or at their labels; asked by mechanisms
        of privacy only.

        The others get zeros for x, labels by chance (of `self.labels`) and None for given.
        """
        return tuple(self.players())

    def error(self, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """Mean squared error, a scalar, of what the family makes of images (B, C, *S) that it did not see in training;
        see `has_error`.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot say how far it is off an image")

    @abstractmethod
    def sample(self, y: Tensor, given: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Images (B, C, *S) in [-1, 1] for labels y (B,); the same generator state gives the same images."""


class Mixture(Family):
    """Several sites' models of one family as one, which one-shot sharing leaves at the centre: each image is drawn by
    one of them.

    `members` by site; `shares` (members, labels): an image of a class is drawn by a site's model in proportion to its
    images of it.

    It is not trained. Its players are all of its members', so that an attack on its membership may ask each.
    """

    def __init__(self, members: dict[str, Family], shares: Tensor):
        super().__init__()
        self.members, self.shares = nn.ModuleDict(members), shares

    def players(self) -> dict[str, nn.Module]:
        members: dict[str, Family] = dict(self.members.items())  # type: ignore[arg-type]
        return {f"{site}/{name}": net for site, of in members.items() for name, net in of.players().items()}

    def loss(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        site, _, name = player.partition("/")
        return self.members[site].loss(name, x, y, given)  # type: ignore[operator]

    def sample(self, y: Tensor, given: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        chosen = torch.multinomial(self.shares.T[y.cpu()].clamp_min(1e-9), 1, generator=generator)[:, 0]
        out: Tensor | None = None
        for place, member in enumerate(self.members.values()):
            mine = (chosen == place).nonzero()[:, 0]
            if len(mine):
                there = None if given is None else given[mine]
                drawn = member.sample(y[mine], there, generator)  # type: ignore[operator]
                out = drawn.new_zeros((len(y), *drawn.shape[1:])) if out is None else out
                out[mine] = drawn
        assert out is not None
        return out
