"""Families of generative models, each with its networks ("players"), a loss for each of them and a sampler.

One training loop, fedsynth/training/trainer.py, trains them all.

Legend: B batch · C generated channels · G given (conditioning) channels · *S spatial size, (H, W) or (D, H, W) · images
are float32 in [-1, 1].

A new family is one file in this folder and one block of params.yaml. Its constructor may take, by name, the project's
`generated` (C), `given` (G), `labels` (number of classes) and `size` (*S); all other arguments are its own. Constructor
arguments become attributes of the same name. BatchNorm is not used: running statistics do not average well and break
SCAFFOLD and DP-SGD.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from fedsynth.errors import UserError
from fedsynth.params.patterns import travels


class Phase(NamedTuple):
    """A `share` of the training rounds in which only `players` are trained.

    `view` maps a batch's images and given channels to what the players' losses take instead of them. It is computed
    once per round for every image, after random mirroring.
    """

    share: float
    players: tuple[str, ...]
    view: Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None]] | None = None


class Family(nn.Module, ABC):
    # keys of `training` in params.yaml and their values where it has none; a literal, since it is read from the file
    defaults: ClassVar[dict[str, Any]] = {}
    has_error = False  # whether `error` is implemented
    released: frozenset[str] | None = None  # names of the trained and released parameters; None means all
    personal: tuple[str, ...] = ()  # names of parameters that never leave a site, with any algorithm
    frozen: frozenset[str] = frozenset()  # names of parameters that are not trained (`freeze`)
    deterministic = False  # whether a label and given channels determine the image

    @abstractmethod
    def players(self) -> dict[str, nn.Module]:
        """Returns the networks by name, in the order in which they are trained; they share no parameters."""

    @abstractmethod
    def loss(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """Returns the scalar loss of one player.

        x (B, C, *S) are the generated channels, y (B,) the labels, given (B, G, *S) the given channels or None.
        """

    def phases(self) -> list[Phase]:
        """Returns the training phases in order; their shares sum to 1. By default one phase trains all players."""
        return [Phase(1.0, tuple(self.players()))]

    def phase(self, number: int, rounds: int) -> tuple[Phase, int, int]:
        """Returns the phase of round `number` (from 0) of `rounds`, its first round and the round after its last.

        Every phase gets at least one round, but one in which nothing is trained (`freeze`): others share its rounds.
        Raises UserError if there are fewer rounds than phases.
        """
        phases = self._trained_in()
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

    def _trained_in(self) -> list[Phase]:
        """Returns the phases with a player that is trained; their shares sum to 1."""
        if not self.frozen:
            return self.phases()
        players = self.players()
        found = [of for of in self.phases() if any(trainable(players[name]) for name in of.players)]
        return [of._replace(share=of.share / sum(every.share for every in found)) for of in found]

    def private_players(self) -> tuple[str, ...]:
        """Returns the players whose loss uses real images, their given channels or their labels.

        Only privacy mechanisms call it. They give the other players zeros for x, random labels (of `self.labels`
        classes) and None for given.
        """
        return tuple(self.players())

    def evidence(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor | None:
        """Returns (B, K): K numbers of each image, lower where the player knows it, for an attack on its training set.

        The noise is the same for all images. None: the attack takes the loss of each image alone, which is slower.
        """
        return None

    def error(self, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor:
        """Returns the mean squared error (a scalar) on images (B, C, *S) that were not seen in training.

        Raises NotImplementedError unless `has_error` is True.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot say how far it is off an image")

    @abstractmethod
    def sample(self, y: Tensor, given: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Generate images (B, C, *S) in [-1, 1] for labels y (B,); the same generator state gives the same images."""


def trainable(player: nn.Module) -> list[nn.Parameter]:
    """Returns the parameters of a player that are trained."""
    return [p for p in player.parameters() if p.requires_grad]


def freeze(family: Family, patterns: Sequence[str] | None) -> Family:
    """Returns the family, of which only the parameters are trained whose names the patterns match; None: all.

    The last pattern that matches a name decides, and "!" excludes. Raises UserError where nothing is left to train.
    """
    if patterns is None:
        return family
    family.frozen = frozenset(name for name, _ in family.named_parameters() if not travels(name, patterns))
    for name, parameter in family.named_parameters():
        parameter.requires_grad_(name not in family.frozen)
    if not any(p.requires_grad for p in family.parameters()):
        raise UserError(f"trainable: {list(patterns)} leaves no parameter of {type(family).__name__} to be trained")
    return family


class Mixture(Family):
    """Mixture of several sites' models of one family, the result of one-shot sharing; each image comes from one member.

    `members` maps sites to models. `shares` (members, labels): for an image of a class, a member is chosen with
    probability proportional to its site's number of images of that class.

    A mixture is not trained. Its players are those of all members, so that a membership attack can query each of them.
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

    def evidence(self, player: str, x: Tensor, y: Tensor, given: Tensor | None) -> Tensor | None:
        site, _, name = player.partition("/")
        return self.members[site].evidence(name, x, y, given)  # type: ignore[operator]

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


def leave_out(family: Family, lacking: Sequence[int]) -> Family:
    """Returns the family, whose losses leave out the generated channels `lacking` (places) of images that have NaN
    there.

    Raises UserError for a family that cannot.
    """
    if lacking:
        known: tuple[int, ...] | None = getattr(family, "may_lack", None)
        if known is None:
            raise UserError(
                f"{type(family).__name__} cannot leave unknown masks out of its loss, and some images have none;"
                " take another family, or say image.unmarked: healthy if nothing is marked in these images"
            )
        setattr(family, "may_lack", tuple(sorted({*known, *lacking})))  # noqa: B010, of some families alone
    return family
