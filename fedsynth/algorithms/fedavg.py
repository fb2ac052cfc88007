"""FedAvg: McMahan et al. 2017, arXiv:1602.05629, algorithm 1; base class of the other algorithms.

"Communication-Efficient Learning of Deep Networks from Decentralized Data". The other algorithms override some of its
hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.errors import UserError
from fedsynth.params.patterns import travels

if TYPE_CHECKING:
    from torch import Tensor, nn

Arrays = dict[str, np.ndarray]
Update = tuple[str, float, Arrays]  # site, weight, difference to what the site received


WEIGHTINGS = ("images", "equal", "validation")


class FedAvg:
    """Federated averaging, with parts of the model that stay at the sites if asked for.

    Args:
        shared: patterns of the names of parameters that are exchanged: "*" for all, one pattern ("generator.*"), or a
            list in which the last matching pattern decides and "!" excludes: ["unet.*", "!unet.down_blocks.*"].
            Parameters that are not exchanged keep their initial values at the centre.
        weighting: weight of a site: its number of training "images" (the paper), the same for all ("equal"), or the
            peak signal-to-noise ratio in dB that its model reaches on its validation images ("validation"). A site
            whose score may not leave counts as the mean of the others.
        local: patterns of parameters that each site keeps for itself until the last round, in which their mean is sent
            to the centre, so that it can sample.

    Raises ValueError for another weighting.
    """

    job = "train"  # the kind of FLARE job: fedsynth/algorithms/__init__.py
    always = True  # every available site trains in each round
    unprotected = ""  # why a robust rule cannot protect this algorithm, if it cannot
    rule: Any = None  # a rule of fedsynth/robust, which the server sets

    def __init__(self, shared: str | list[str] = "*", weighting: str = "images", local: list[str] | None = None):
        self.shared, self.weighting, self.local = shared, weighting, local
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, not {weighting!r}")
        self._scores: dict[str, float | None] = {}
        self._steps: Mapping[str, int] = {}
        self._averaged = False
        self.said: dict[str, list[str]] = {}  # by site, what the rule said of its update in this round

    def check(self, family: Any, rounds: int, private: bool) -> None:
        """Raise UserError if a training of `family` for `rounds` rounds is not possible; called at the centre.

        `private`: whether a privacy mechanism is used.
        """
        if self.weighting == "validation" and not family.has_error:
            raise UserError(
                f"weighting: validation needs a family that can say how far it is off an image; {type(family).__name__}"
                " cannot"
            )
        if private and self.weighting == "validation":
            raise UserError(
                "weighting: validation sends a number of real images without noise; with models.<name>.privacy take"
                " another"
            )
        if private and not self.always:
            raise UserError(
                f"{type(self).__name__} with a mechanism of privacy is not accounted for: a site does not train in each"
                " round"
            )

    # at the site

    def parameters(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Returns the parameters that are ever exchanged, by name: of those that match `shared` the trained ones.

        Buffers never are: averaging a counter or a mask is meaningless.
        """
        frozen: frozenset[str] = getattr(model, "frozen", frozenset())
        chosen = {name: p for name, p in self.sent(model).items() if name not in frozen}
        if not chosen:
            raise ValueError(f"no parameter of {type(model).__name__} that is trained matches shared={self.shared!r}")
        return chosen

    def sent(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Returns the parameters that the centre sends, by name: those that are exchanged, and frozen ones, once."""
        personal = getattr(model, "personal", ())
        patterns = [
            *([self.shared] if isinstance(self.shared, str) else self.shared),
            *(f"!{name}" for name in personal),
        ]
        chosen = {name: p for name, p in model.named_parameters() if travels(name, patterns)}
        if not chosen:
            raise ValueError(f"no parameter of {type(model).__name__} matches shared={self.shared!r}")
        return chosen

    def common(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Returns those of `parameters` that are shared by all sites in every round."""
        return {name: p for name, p in self.parameters(model).items() if not self.is_local(name)}

    def is_local(self, name: str) -> bool:
        return travels(name, self.local or [])

    def begin(self, model: nn.Module, incoming: dict[str, Tensor]) -> None:
        """Load the global parameters at the start of a round; local ones are kept.

        Raises ValueError if a shared parameter is missing in `incoming`.
        """
        import torch  # imported at sites only: the server starts faster without torch

        mine = self.common(model)
        if missing := set(mine) - set(incoming):
            raise ValueError(
                f"the server sent no {sorted(missing)[:3]} … ({len(missing)} of {len(mine)} parameters); are both sides"
                " of one version?"
            )
        with torch.no_grad():
            for name, parameter in mine.items():
                parameter.copy_(incoming[name].reshape(parameter.shape))

    def penalty(self, model: nn.Module, player: nn.Module) -> Tensor | float:
        """Returns the term that is added to the player's loss."""
        return 0.0

    def after_step(self, model: nn.Module, player: nn.Module, lr: float) -> None:
        """Called after each optimiser step of a player, with its learning rate."""

    def end(self, model: nn.Module, incoming: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns the difference to send to the server: trained minus received, for each received parameter."""
        mine = {name: p for name, p in self.parameters(model).items() if name in incoming}
        return {name: p.detach() - incoming[name].reshape(p.shape).to(p) for name, p in mine.items()}

    def state(self) -> dict[str, Any]:
        """Returns what the site must keep between rounds (tensors and plain values)."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""

    # at the server

    def prepare(self, initial: Arrays) -> Arrays:
        """Returns the arrays sent in the first round: the initial parameters and the algorithm's additional arrays."""
        return initial

    def sites_of_round(self, sites: list[str], number: int) -> list[str]:
        """Returns the sites, out of the connected `sites`, that train in round `number`."""
        return sites

    def arrays_sent(self, names: list[str], last: bool) -> list[str]:
        """Returns the names of the global arrays sent in a round; the sites return the differences to these."""
        return [name for name in names if last or not self.is_local(name)]

    def before_aggregate(
        self,
        family: Callable[[], Any],
        sent: Arrays,
        scores: dict[str, float | None],
        steps: Mapping[str, int] | None = None,
        averaged: bool = False,
    ) -> None:
        """Called before each `aggregate`.

        `family` builds the family, `sent` are the arrays that the sites received, `scores` are the sites' validation
        scores in dB, None where not known. `steps`: the sites' optimiser steps in this round. `averaged`: the sites
        have sent averaged (EMA) weights, as in the last round of a phase: the mean of these is what is wanted, and no
        step of an algorithm from there.
        """
        self._scores, self.said = scores, {}
        self._steps, self._averaged = steps or {}, averaged

    def aggregate(self, updates: list[Update]) -> Arrays:
        """Returns the change of the global parameters: sum of n_k / n times the difference of site k.

        This is the last line of algorithm 1; with another `weighting`, n_k is the site's weight. Sites are added in
        alphabetical order and in float64, so that the same updates give bitwise the same result.
        """
        return self.combine([(site, self.weight(site, w), d) for site, w, d in updates])

    def combine(self, updates: list[Update], of: str = "") -> Arrays:
        """Returns the weighted mean of the updates, or what the robust rule makes of them.

        `of`: what the arrays are, where an algorithm combines others than the parameters.
        """
        if self.rule is None:
            return weighted_mean(updates)
        change, said = self.rule.combine(updates)
        for site, why in said.items():
            self.said.setdefault(site, []).append(f"{of}: {why}" if of else why)
        return dict(change)

    def weight(self, site: str, images: float) -> float:
        if self.weighting == "images":
            return images
        known = [s for s in self._scores.values() if s is not None]
        if self.weighting == "equal" or not known:
            return 1.0
        score = self._scores.get(site)
        return max(float(np.mean(known)) if score is None else score, 0.1)  # in dB; every site has a positive weight

    def extra_arrays(self, sent: Arrays, updates: list[Update]) -> Arrays:
        """Returns arrays that the centre keeps beside the global parameters.

        `sent` and `updates` are those of the last round.
        """
        return {}


def weighted_mean(updates: list[Update]) -> Arrays:
    updates = sorted(updates, key=lambda u: u[0])
    total = sum(weight for _, weight, _ in updates)
    names = updates[0][2].keys()
    return {
        n: (np.sum([w * d[n].astype(np.float64) for _, w, d in updates], 0) / total).astype(updates[0][2][n].dtype)
        for n in names
    }
