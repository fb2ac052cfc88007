"""What several trainings of one model say together: the mean of each number, with how much trainings differ."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedsynth.params import Params
from fedsynth.params.gates import WORST, meant, parse
from fedsynth.worth.facts import OF_THE_SET
from fedsynth.worth.wording import Facts, is_number


@dataclass(frozen=True)
class Together:
    """A number of several trainings of one model. `each`: the trainings' own, in the order of params.yaml.

    `low`, `high`: the ends at 95 % of the interval of their mean; None where it has no bound.
    """

    name: str
    mean: float
    low: float | None
    high: float | None
    each: list[float]


def together(params: Params, facts: Facts) -> dict[tuple[str, ...], list[Together]]:
    """Return models -> their numbers together, for each two or more judged models that are trainings of one model.

    A number that one of them lacks is left out: a mean over fewer is another quantity. `facts`: by model, of
    worth/facts.py.
    """
    found = {}
    for alike in params.trainings():
        judged = [name for name in alike if (facts.get(name) or {}).get("numbers")]
        if len(judged) > 1:
            found[tuple(judged)] = _numbers([facts[name] for name in judged])
    return found


def gated(params: Params, facts: Facts) -> dict[tuple[str, ...], list[Together]]:
    """Return as `together`, of the numbers that a gate asks for, and of each use what is retained and closed."""
    asked = [parse(text) for text in (*params.gates.require, *params.gates.warn)]
    names = [f"{use}/{share}" for use in params.score.uses for share in ("retained", "gap_closed_poorest")]
    names += [f"{gate.name}@{gate.site}" if gate.site not in ("", WORST) else gate.name for gate in asked]
    found = {}
    for models, numbers in together(params, facts).items():
        of = {number.name: number for number in numbers}
        called = dict.fromkeys(meant(name, of) for name in names)
        found[models] = [of[name] for name in called if name in of]
    return found


def _numbers(of: Sequence[dict[str, Any]]) -> list[Together]:
    names = [name for name in of[0]["numbers"] if all(is_number(one["numbers"].get(name)) for one in of)]
    return [_one(name, [one["numbers"][name] for one in of], [_own(one, name) for one in of]) for name in names]


def _own(of: dict[str, Any], name: str) -> Sequence[float | None]:
    """Return a number's own interval in one training: the number itself if it is exact, no ends if it has none."""
    value = of["numbers"][name]
    return [value, value] if name in OF_THE_SET else of["intervals"].get(name) or [None, None]


def _one(name: str, values: list[float], own: Sequence[Sequence[float | None]]) -> Together:
    """Return the mean over the trainings with its interval.

    All trainings are tested on the same patients, by networks of the same seeds, so that their mean is as uncertain
    for those as one of them: half of the interval is the root of that half (the mean of the trainings' own) squared and
    of Student's t times the standard error between trainings squared.
    """
    from scipy.stats import t

    mean = statistics.fmean(values)
    between = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5

    def end(side: int) -> float | None:
        at = [ends[side] for ends in own]
        halves = [abs(place - value) for value, place in zip(values, at, strict=True) if place is not None]
        if len(halves) < len(values):
            return None
        return mean + (2 * side - 1) * math.hypot(statistics.fmean(halves), between)

    return Together(name, mean, end(0), end(1), values)
