"""Evaluates the gates of params.yaml against a model's numbers and gives a reason for each."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

from fedsynth.params.gates import OPS, WORST, Gate, meant, parse

WORDS = {
    "<=": ("at most", "above"),
    ">=": ("at least", "below"),
    "<": ("below", "not below"),
    ">": ("above", "not above"),
}
NOT_COMPUTED = "not computed"


def evaluate(gates: Mapping[str, list[str]], numbers: Mapping[str, float | None], floors: Mapping[str, float | None],
             why: Mapping[str, str] | None = None, of: Mapping[str, str] | None = None) -> dict[str, Any]:  # fmt: skip
    """Evaluate gates, given as {"require": [...], "warn": [...]}.

    Returns {"passed", "said", "gates": [{"gate", "kind", "held", "value", "limit", "reason"}]}. `passed`: all required
    gates hold; `said`: the verdict in short, such as "passed", "failed: 2 of 9" or "none set".

    `numbers`, `floors` and `why` (why a number is missing) are by name, for a site `name@site`. `of`: by name, what a
    share is relative to or what epsilon compares, for the reason ("of pooled", "for one image more or less"). A gate on
    a missing number does not hold.
    """
    found = [
        _judge(parse(text), kind, numbers, floors, why or {}, of or {})
        for kind in ("require", "warn")
        for text in gates.get(kind, [])
    ]
    required = [g for g in found if g["kind"] == "require"]
    return {"passed": all(g["held"] for g in required), "said": said(found), "gates": found}


def said(found: list[dict[str, Any]]) -> str:
    """Return the verdict in short, such as "passed" or "failed: 2 of 9"."""
    required = [g["held"] for g in found if g["kind"] == "require"]
    warnings = sum(not g["held"] for g in found if g["kind"] == "warn")
    if not required:
        return "none set" if not found else f"none required, {warnings} of {len(found)} warnings"
    if not all(required):
        return f"failed: {required.count(False)} of {len(required)}"
    return "passed" + (f", with {warnings} warning{'s' if warnings > 1 else ''}" if warnings else "")


def _judge(gate: Gate, kind: str, numbers: Mapping[str, float | None], floors: Mapping[str, float | None],
           why: Mapping[str, str], of: Mapping[str, str]) -> dict[str, Any]:  # fmt: skip
    called = meant(gate.name, numbers)
    names = (
        [n for n in numbers if n.startswith(f"{called}@") and n != f"{called}@{WORST}"] if gate.site == WORST else []
    )
    names = names or [meant(f"{gate.name}@{gate.site}", numbers) if gate.site else called]
    answers = [_one(gate, name, numbers, floors, why, of.get(called, "")) for name in names]
    # The site nearest to the limit or furthest beyond it; if a site has no value, the worst site is unknown and the
    # gate does not hold.
    worst = next((a for a in answers if a["value"] is None or a["limit"] is None), None) or min(
        answers, key=lambda a: _room(gate, a)
    )
    return {"gate": gate.text, "kind": kind, **worst}


def _one(gate: Gate, name: str, numbers: Mapping[str, float | None], floors: Mapping[str, float | None],
         why: Mapping[str, str], of: str) -> dict[str, Any]:  # fmt: skip
    value, floor = _finite(numbers.get(name)), _finite(floors.get(name))
    site = name.removeprefix(f"{meant(gate.name, numbers)}@") if gate.site == WORST and name in numbers else ""
    limit = gate.number if not gate.of_floor else None if floor is None or floor < 0 else gate.number * floor
    answer = {"held": False, "value": value, "limit": limit}
    if value is None:
        return answer | {"reason": f"missing{_at(site)}: {_missing(name, numbers, why)}"}
    if limit is None:
        none = (
            "it has no floor"
            if floor is None
            else f"its floor is {floor:.4g}, and a multiple of a negative number limits nothing"
        )
        return answer | {"reason": f"no limit{_at(site)}: {none}"}
    held = OPS[gate.op](value, limit)
    shown, against = _distinct(value, limit)
    of_floor = f", {gate.number:g} times the floor of {floor:.4g}" if gate.of_floor else ""
    return answer | {
        "held": held,
        "reason": f"{shown}{of and f' {of}'}{_at(site)} is {WORDS[gate.op][0 if held else 1]} {against}{of_floor}",
    }


def _missing(name: str, numbers: Mapping[str, float | None], why: Mapping[str, str]) -> str:
    if name in why:
        return why[name]
    if name in numbers:
        return NOT_COMPUTED
    near = difflib.get_close_matches(name, list(numbers), 1)
    return f"{NOT_COMPUTED}, there is no number of this name" + (f"; did you mean `{near[0]}`?" if near else "")


def _room(gate: Gate, answer: dict[str, Any]) -> float:
    """Return the distance of a value from its limit; negative if the gate does not hold.

    For multiples of floors, which differ between sites, it is relative to the limit.
    """
    value, limit = answer["value"], answer["limit"]
    room = limit - value if gate.op.startswith("<") else value - limit
    return room / limit if gate.of_floor and limit > 0 else room


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
