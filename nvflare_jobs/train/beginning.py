"""What a training begins with, where it is not what the seed gives: looked up, matched to the family, and said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsynth.params import Params
from fedsynth.params.start import Start
from fedsynth.registry import starts
from fedsynth.stages import inputs
from fedsynth.training.start import Arrays, Taken, digest, matched

if TYPE_CHECKING:
    from fedsynth.families import Family

WHOLE = Start.model_construct(file="what was pretrained", take=["*"], rename={})
SHOWN = 3  # names in a line
LEFT = {
    "left": "as the seed gives them",
    "unused": "not used of it",
    "of_sites": "never sent, so each site has its own",
}


@dataclass(frozen=True)
class Beginning:
    """The arrays by the names of the family's parameters, and where they are from (registry/starts.py)."""

    taken: Taken
    about: dict[str, Any]

    @property
    def arrays(self) -> Arrays:
        return self.taken.arrays

    def told(self, name: str, initial: Arrays) -> dict[str, Any]:
        """Print what was taken and what was not; return it for model.json, with the digest of what all sites get.

        `initial`: the global parameters that the training begins with.
        """
        about = self.about | self.taken.report() | {"weights_sha256": digest(initial)}
        print("\n".join(lines(name, about)), flush=True)
        return about


def beginning(params: Params, name: str, family: Family, root: Path) -> Beginning | None:
    """Return what a training begins with; None for the seed's weights. Raises StartError where it cannot."""
    found = starts.begun(root, params, name, inputs.start_of_run(root, params, name))
    if found is None:
        return None
    model = params.models[name]
    sent = model.algorithm.build().sent(family)
    return Beginning(matched(model.start or WHOLE, found.arrays, family, sent), found.about)


def after(spent: dict[str, Any] | None, about: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a training's epsilon, unknown where it began with a model that sites trained without such a bound.

    What that model has learned of their images is in this one, too. Where it had an epsilon, the sites' ledgers have
    both, and `total` is of both together. `about`: as from `Beginning.told`.
    """
    before = (about or {}).get("epsilon") or {}
    if spent is None or about is None or not about["digests"] or before.get("epsilon") is not None:
        return spent
    why = "it began with a model that was trained on images of patients without a known epsilon, which is still in it"
    return spent | {"epsilon": None, "total": None, "why": why}


def lines(name: str, about: dict[str, Any]) -> list[str]:
    """Return in words what a training begins with. `about`: as from `Beginning.told`."""
    behind, numbers = "; ".join(about["trained_on"]), f"{about['numbers']:,} of {about['of_numbers']:,} numbers"
    return [
        f"{name} begins with {about['from']} (SHA-256 {about['sha256'][:12]}…), trained on {behind}",
        f"  taken: {about['taken']} of {about['of']} parameters, {numbers}",
        *(f"  {said}: {_shown(about[key])}" for key, said in LEFT.items() if about[key]),
        f"  SHA-256 of what sites begin with: {about['weights_sha256']} (for floors.starts of their policies)",
    ]


def _shown(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''})"
