"""FedAvg: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data",
arXiv:1602.05629, algorithm 1.

Also the contract and the neutral element of the others: they change a hook each.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

Arrays = dict[str, np.ndarray]
Update = tuple[str, float, Arrays]  # site, weight, difference to what the site received


WEIGHTINGS = ("images", "equal", "validation")


class FedAvg:
    """`shared`: which parameters travel: "*" for all, a pattern of their names ("generator.*"), or several of which the
    last that fits decides and "!" keeps at the site: ["unet.*", "!unet.down_blocks.*"]. What stays is at the centre as
    it was in the beginning.

    `local`: patterns of those that each site has for itself until the last round, in which their mean comes to the
    centre, so that it has something to sample with.

    `weighting`: a site counts by its number of training "images" (the paper), as much as every other ("equal"), or by
    the peak signal-to-noise ratio in dB that its model reaches on its validation images ("validation"); a site whose
    score may not leave counts as the mean of the others. Raises ValueError for another weighting.
    """

    job = "train"  # what carries it: fedsynth/algorithms
    always = True  # every site that can takes part in each round

    def __init__(self, shared: str | list[str] = "*", weighting: str = "images", local: list[str] | None = None):
        self.shared, self.weighting, self.local = shared, weighting, local
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, not {weighting!r}")
        self._scores: dict[str, float | None] = {}

    def check(self, family: Any, rounds: int, private: bool) -> None:
        """Raise UserError where a training of so many rounds, with or without a mechanism of privacy, cannot be. Asked
        at the centre.
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
        """The parameters that travel at any time, by name. Buffers never do: averaging a counter or a mask means
        nothing.
        """
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
        """Those of `parameters` that sites have in common in every round."""
        return {name: p for name, p in self.parameters(model).items() if not self.is_local(name)}

    def is_local(self, name: str) -> bool:
        return travels(name, self.local or [])

    def begin(self, model: nn.Module, incoming: dict[str, Tensor]) -> None:
        """Take over the global parameters at the start of a round; local ones stay as they are."""
        import torch  # at a site only: the server does without, which saves its start-up

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
        """Added to the player's loss."""
        return 0.0

    def after_step(self, model: nn.Module, player: nn.Module, lr: float) -> None:
        """After each optimiser step of a player."""

    def end(self, model: nn.Module, incoming: dict[str, Tensor]) -> dict[str, Tensor]:
        """The difference that goes to the server: mine minus received, never weights, of what the server has sent."""
        mine = {name: p for name, p in self.parameters(model).items() if name in incoming}
        return {name: p.detach() - incoming[name].reshape(p.shape).to(p) for name, p in mine.items()}

    def state(self) -> dict[str, Any]:
        """What must outlive a round at the site (tensors and plain values)."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""

    # at the server

    def prepare(self, initial: Arrays) -> Arrays:
        """What the first round sends: the initial parameters and whatever the algorithm carries beside them."""
        return initial

    def sites_of_round(self, sites: list[str], number: int) -> list[str]:
        """Those of the connected `sites` that train in this round."""
        return sites

    def arrays_sent(self, names: list[str], last: bool) -> list[str]:
        """Those of the global arrays that go to the sites in a round, and whose difference comes back."""
        return [name for name in names if last or not self.is_local(name)]

    def before_aggregate(self, family: Callable[[], Any], sent: Arrays, scores: dict[str, float | None]) -> None:
        """Before each `aggregate`: how to make the family, the arrays that the sites got, each site's score on its
        validation images.
        """
        self._scores = scores

    def aggregate(self, updates: list[Update]) -> Arrays:
        """The change of the global parameters: sum of n_k / n times the difference of site k (algorithm 1, last line),
        or by `weighting`.

        Sites are added in the order of their names, in float64, so that the same updates give the same bits.
        """
        return weighted_mean([(site, self.weight(site, w), d) for site, w, d in updates])

    def weight(self, site: str, images: float) -> float:
        if self.weighting == "images":
            return images
        known = [s for s in self._scores.values() if s is not None]
        if self.weighting == "equal" or not known:
            return 1.0
        score = self._scores.get(site)
        return max(float(np.mean(known)) if score is None else score, 0.1)  # dB; a site counts at least a little

    def extra_arrays(self, sent: Arrays, updates: list[Update]) -> Arrays:
        """Arrays that the centre keeps beside the global parameters, of those `sent` in the last round and its
        updates.
        """
        return {}


def travels(name: str, patterns: list[str]) -> bool:
    """Whether the last pattern that fits the name does so without a "!"."""
    fitting = [p for p in patterns if fnmatchcase(name, p.removeprefix("!"))]
    return bool(fitting) and not fitting[-1].startswith("!")


def weighted_mean(updates: list[Update]) -> Arrays:
    updates = sorted(updates, key=lambda u: u[0])
    total = sum(weight for _, weight, _ in updates)
    names = updates[0][2].keys()
    return {
        n: (np.sum([w * d[n].astype(np.float64) for _, w, d in updates], 0) / total).astype(updates[0][2][n].dtype)
        for n in names
    }
