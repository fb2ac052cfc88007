"""Evaluates the gates of params.yaml against a model's numbers and gives a reason for each."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedsynth.params.gates import OPS, WORST, Gate, meant, parse

WORDS = {
    "<=": ("at most", "above"),
    ">=": ("at least", "below"),
    "<": ("below", "not below"),
    ">": ("above", "not above"),
}
NOT_COMPUTED = "not computed"
Ends = Sequence[float | None] | None


@dataclass(frozen=True)
class Known:
    """What gates are held against, by name, for a site `name@site`.

    - `numbers`, `floors`, `why` (why a number is missing); `of`: what a share is relative to or what epsilon compares,
      for the reason ("of pooled", "for one image more or less").
    - `intervals`: [low, high] at 95 %; None if a number should have one and has not, no key if it is exact. An end that
      is None has no bound. `seeds`: the same for other seeds of the uses' networks alone, with endless test images.
    - `n`: on how many images an interval rests, of which more would make it narrower; None if that is not told.
    - `audits`: numbers of the privacy audit, which must hold at each site.
    """

    numbers: Mapping[str, float | None]
    floors: Mapping[str, float | None] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)
    of: Mapping[str, str] = field(default_factory=dict)
    intervals: Mapping[str, Ends] = field(default_factory=dict)
    seeds: Mapping[str, Ends] = field(default_factory=dict)
    n: Mapping[str, int | None] = field(default_factory=dict)
    audits: Collection[str] = ()


def evaluate(gates: Mapping[str, Any], known: Known) -> dict[str, Any]:
    """Evaluate gates, given as {"by": "bound" or "point", "require": [...], "warn": [...]}.

    Returns {"passed", "said", "gates": [{"gate", "kind", "by", "held", "few", "value", "low", "high", "limit",
    "reason"}]}. `passed`: all required gates hold; `said`: the verdict in short, such as "passed", "failed: 2 of 9" or
    "none set".

    By bound, a gate holds if the end of the interval on the safe side does: the upper end of what must be low, the
    lower one of what must be high. `few`: the value would hold and its bound does not. A number that is exact has no
    interval and holds by its value. A gate on a missing number does not hold, nor one by bound without an interval. A
    number of the audit must hold at each site and for all together, unless the gate names a site.
    """
    found = [
        _judge(parse(text), kind, known, gates.get("by", "bound"))
        for kind in ("require", "warn")
        for text in gates.get(kind, [])
    ]
    required = [g for g in found if g["kind"] == "require"]
    return {"passed": all(g["held"] for g in required), "said": said(found), "gates": found}


def said(found: list[dict[str, Any]]) -> str:
    """Return the verdict in short, such as "passed" or "failed: 2 of 9, 1 of them for too few to tell"."""
    required = [g for g in found if g["kind"] == "require"]
    broken = [g for g in required if not g["held"]]
    warnings = sum(not g["held"] for g in found if g["kind"] == "warn")
    if not required:
        return "none set" if not found else f"none required, {warnings} of {len(found)} warnings"
    if broken:
        few = sum(g["few"] for g in broken)
        return f"failed: {len(broken)} of {len(required)}" + (f", {few} of them for too few to tell" if few else "")
    return "passed" + (f", with {warnings} warning{'s' if warnings > 1 else ''}" if warnings else "")


def _judge(gate: Gate, kind: str, known: Known, by: str) -> dict[str, Any]:
    called = meant(gate.name, known.numbers)
    each = [n for n in known.numbers if n.startswith(f"{called}@") and n != f"{called}@{WORST}"]
    if gate.site == WORST:
        names = each
    elif not gate.site and called in known.audits:
        names = [called, *each]
    else:
        names = []
    names = names or [meant(f"{gate.name}@{gate.site}", known.numbers) if gate.site else called]
    answers = [_one(gate, name, known, gate.by or by) for name in names]
    # The site nearest to the limit or furthest beyond it; if a site has no value, the worst site is unknown and the
    # gate does not hold.
    worst = next((a for a in answers if a["value"] is None or a["limit"] is None), None) or min(
        answers, key=lambda a: _room(gate, a)
    )
    return {"gate": gate.text, "kind": kind, **worst}


def _one(gate: Gate, name: str, known: Known, by: str) -> dict[str, Any]:
    value, floor = _finite(known.numbers.get(name)), _finite(known.floors.get(name))
    called = meant(gate.name, known.numbers)
    site = name.removeprefix(f"{called}@") if gate.site in ("", WORST) and name != called else ""
    site = site if name in known.numbers else ""
    limit = gate.number if not gate.of_floor else None if floor is None or floor < 0 else gate.number * floor
    by = by if name in known.intervals else "point"
    low, high = (known.intervals.get(name) or (None, None)) if by == "bound" else (None, None)
    answer = {"by": by, "held": False, "few": False, "value": value, "low": low, "high": high, "limit": limit}
    if value is None:
        return answer | {"reason": f"missing{_at(site)}: {_missing(name, known)}"}
    if limit is None:
        none = (
            "it has no floor"
            if floor is None
            else f"its floor is {floor:.4g}, and a multiple of a negative number limits nothing"
        )
        return answer | {"reason": f"no limit{_at(site)}: {none}"}
    holds, end = OPS[gate.op](value, limit), high if gate.op.startswith("<") else low
    held = holds and (by == "point" or (end is not None and OPS[gate.op](end, limit)))
    shown, against = _distinct(value, limit)
    of, at = known.of.get(called, ""), _at(site)
    reason = f"{shown}{_around(low, high)}{of and f' {of}'}{at} is {WORDS[gate.op][0 if holds else 1]} {against}"
    reason += f", {gate.number:g} times the floor of {floor:.4g}" if gate.of_floor else ""
    if few := holds and not held:
        reason += f", {_few(gate, name, known, value, limit, end)}"
    return answer | {"held": held, "few": few, "reason": reason}


def _around(low: float | None, high: float | None) -> str:
    """Return an interval in brackets, "" if there is none."""
    if low is None and high is None:
        return ""
    return f" ({'−∞' if low is None else f'{low:.3g}'} to {'∞' if high is None else f'{high:.3g}'})"


def _few(gate: Gate, name: str, known: Known, value: float, limit: float, end: float | None) -> str:
    """Return why the bound does not hold, and how many images would be enough.

    The part of an interval that is of the images narrows with the root of their number; that of the seeds stays.
    """
    side = "upper" if gate.op.startswith("<") else "lower"
    if known.intervals.get(name) is None:
        return "but it has no interval: too few to tell"
    said, room, n = f"but its {side} end is not: too few to tell", abs(value - limit), known.n.get(name)
    if end is None or n is None:
        return said
    inner = (known.seeds.get(name) or [value, value])[side == "upper"]
    of_seeds = math.inf if inner is None else abs(inner - value)
    if room <= of_seeds:
        what = "the networks' seeds differ too much, give more of score.seeds" if of_seeds else "it is at its limit"
        return f"{said}; no number of images would be enough: {what}"
    enough = n * ((end - value) ** 2 - of_seeds**2) / (room**2 - of_seeds**2)
    return f"{said}; about {_rounded(max(enough, n + 1))} images like these would be enough, there are {n}"


def _rounded(n: float) -> int:
    """Return a number rounded up to two significant digits."""
    step = 10 ** max(0, math.floor(math.log10(n)) - 1)
    return math.ceil(n / step) * step


def _missing(name: str, known: Known) -> str:
    if name in known.why:
        return known.why[name]
    if name in known.numbers:
        return NOT_COMPUTED
    near = difflib.get_close_matches(name, list(known.numbers), 1)
    return f"{NOT_COMPUTED}, there is no number of this name" + (f"; did you mean `{near[0]}`?" if near else "")


def _room(gate: Gate, answer: dict[str, Any]) -> tuple[int, float]:
    """Return how well a gate holds, for comparison: a value beyond the limit, a bound beyond it, or neither; then the
    distance of that number from the limit, negative beyond it.

    For multiples of floors, which differ between sites, it is relative to the limit.
    """
    limit, held, few = answer["limit"], answer["held"], answer["few"]
    end = answer["high" if gate.op.startswith("<") else "low"]
    by_end = answer["by"] == "bound" and (held or few)
    number = end if by_end else answer["value"]
    if number is None:
        return int(few), -math.inf
    room = limit - number if gate.op.startswith("<") else number - limit
    return few + 2 * held, room / limit if gate.of_floor and limit > 0 else room


def _at(site: str) -> str:
    return f" at {site}" if site else ""


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _distinct(value: float, limit: float) -> tuple[str, str]:
    """Format both numbers with as few digits as show that they differ."""
    for digits in (3, 4, 6, 9):
        texts = f"{value:.{digits}g}", f"{limit:.{digits}g}"
        if texts[0] != texts[1] or value == limit:
            return texts
    return repr(value), repr(limit)
