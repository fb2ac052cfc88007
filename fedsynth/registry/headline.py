"""The few numbers of a model that runs are compared by in MLflow, and which model of a run they say is the best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedsynth.registry.promotion import SHARES
from fedsynth.training.history import traffic
from fedsynth.worth.wording import mean_of_uses


def headline(facts: dict[str, Any] | None, history: dict[str, Any]) -> dict[str, float]:
    """Return what a model's set is worth, what it gives away and what its training cost, by names without the model's.

    - `retained`, the mean over the uses, and `<use>/retained`, `<use>/gap_closed`, `<use>/gap_closed_poorest`
    - each measure by its name, as `fid`, `copies_pixel`, `membership_loss_auc`
    - `epsilon`, `epsilon_total`; `gates/failed`, `gates/warnings`; `bytes`, of all sites and rounds

    `facts`: as from fedsynth/worth/facts.py, None if it was not scored; `history`: of the training. What was not
    computed has no key.
    """
    sent = sum(of["all"] for of in traffic(history).values())
    found: dict[str, float | None] = {"bytes": sent or None}
    if facts is None:
        return _known(found)
    worth = {f"{use}/{share}": of.get(share) for use, of in facts["uses"].items() for share in SHARES}
    broken = [gate["kind"] for gate in facts["verdict"]["gates"] if not gate["held"]]
    names = (*facts["measures"], "epsilon", "epsilon_total")
    found |= {"retained": mean_of_uses(of.get("retained") for of in facts["uses"].values())} | worth
    found |= {name: facts["numbers"].get(name) for name in names}
    return _known(found | {"gates/failed": broken.count("require"), "gates/warnings": broken.count("warn")})


def best(headlines: Mapping[str, Mapping[str, float]]) -> str:
    """Return the model whose numbers stand for the whole run, "" where there is none.

    One whose required gates hold comes before others, then the one whose set retains most.
    """

    def rank(model: str) -> tuple[bool, float]:
        return headlines[model].get("gates/failed") == 0, headlines[model].get("retained", -1.0)

    return max(headlines, key=rank, default="")


def _known(found: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float(value) for name, value in found.items() if value is not None}
