"""Gates: what must hold of a model's numbers before it may be promoted, as lines of params.yaml, evaluated into one verdict with reasons.

A gate reads `name op limit`. The name is a use's (`classification/retained`, `segmentation/dice`, `classification/sensitivity.none`) or a
measure's (`fid`, `copies_pixel`, `epsilon`), of one site with `@north`, of every site with `@worst_site`. The limit is a number, or a
multiple of the measure's real-real floor: `fid <= 3 * floor`.
"""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OPS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
WORDS = {"<=": ("at most", "above"), ">=": ("at least", "below"), "<": ("below", "not below"), ">": ("above", "not above")}
WORST = "worst_site"
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
NAME = r"[\w.\-]+(?:/[\w.\-]+)?"
GATE = re.compile(rf"(?P<name>{NAME})(?:@(?P<site>[\w.\-]+))?\s*(?P<op><=|>=|<|>)\s*(?P<number>{NUMBER})(?:\s*\*\s*(?P<floor>floor))?")
FORMS = "`use/metric >= 0.8`, `measure <= 0.1`, `measure <= 3 * floor`, each name also with `@worst_site` or `@<site>`"
NOT_COMPUTED = "not computed"


@dataclass(frozen=True)
class Gate:
    """`number` is the limit itself, or with `of_floor` a multiple of the floor; `site` is "" (all together), a site or "worst_site"."""

    text: str
    name: str
    site: str
    op: str
    number: float
    of_floor: bool


def parse(text: str) -> Gate:
    """One line of params.yaml. Raises ValueError saying what of it is not understood, with the nearest form that is."""
    found = GATE.fullmatch(text.strip())
    if found is None or _misspelt(found["site"]):
        near = _near(text)
        hint = f"did you mean `{near}`?" if near else f"a gate reads {FORMS}"
        raise ValueError(f"gate {text!r} is not understood: {_wrong(text)}; {hint}")
    return Gate(text.strip(), found["name"], found["site"] or "", found["op"], float(found["number"]), bool(found["floor"]))


def evaluate(gates: Mapping[str, list[str]], numbers: Mapping[str, float | None], floors: Mapping[str, float | None],
             why: Mapping[str, str] | None = None, of: Mapping[str, str] | None = None) -> dict[str, Any]:  # fmt: skip
    """{"passed", "said", "gates": [{"gate", "kind", "held", "value", "limit", "reason"}]} of {"require": [...], "warn": [...]}.

    `numbers`, `floors` and `why` (one is missing) are by name, a site's by `name@site`; `of` says by the name alone what a share is of or
    what epsilon counts, for the reason ("of pooled", "for one subject"). A number that is missing is a gate that does not hold. `passed`:
    all that is required holds. `said` puts it in a word and tells where nothing is required: "passed", "failed: 2 of 9", "none set".
    """
    found = [
        _judge(parse(text), kind, numbers, floors, why or {}, of or {}) for kind in ("require", "warn") for text in gates.get(kind, [])
    ]
    required = [g for g in found if g["kind"] == "require"]
    return {"passed": all(g["held"] for g in required), "said": said(found), "gates": found}


def said(found: list[dict[str, Any]]) -> str:
    """The verdict in a word or two."""
    required = [g["held"] for g in found if g["kind"] == "require"]
    warnings = sum(not g["held"] for g in found if g["kind"] == "warn")
    if not required:
        return "none set" if not found else f"none required, {warnings} of {len(found)} warnings"
    if not all(required):
        return f"failed: {required.count(False)} of {len(required)}"
    return "passed" + (f", with {warnings} warning{'s' if warnings > 1 else ''}" if warnings else "")


def _judge(gate: Gate, kind: str, numbers: Mapping[str, float | None], floors: Mapping[str, float | None],
           why: Mapping[str, str], of: Mapping[str, str]) -> dict[str, Any]:  # fmt: skip
    names = [n for n in numbers if n.startswith(f"{gate.name}@") and n != f"{gate.name}@{WORST}"] if gate.site == WORST else []
    names = names or [f"{gate.name}@{gate.site}" if gate.site else gate.name]
    answers = [_one(gate, name, numbers, floors, why, of.get(gate.name, "")) for name in names]
    # the site that is nearest to failing, or furthest beyond: where one is missing, nobody knows which site is the worst
    worst = next((a for a in answers if a["value"] is None or a["limit"] is None), None) or min(answers, key=lambda a: _room(gate, a))
    return {"gate": gate.text, "kind": kind, **worst}


def _one(gate: Gate, name: str, numbers: Mapping[str, float | None], floors: Mapping[str, float | None],
         why: Mapping[str, str], of: str) -> dict[str, Any]:  # fmt: skip
    value, floor = _finite(numbers.get(name)), _finite(floors.get(name))
    site = name.partition("@")[2] if gate.site == WORST and name in numbers else ""
    limit = gate.number if not gate.of_floor else None if floor is None or floor < 0 else gate.number * floor
    answer = {"held": False, "value": value, "limit": limit}
    if value is None:
        return answer | {"reason": f"missing{_at(site)}: {_missing(name, numbers, why)}"}
    if limit is None:
        none = "it has no floor" if floor is None else f"its floor is {floor:.4g}, and a multiple of a negative number limits nothing"
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
    """How far a value is on the good side of its limit; for multiples of floors, which differ between sites, as a share of the limit."""
    value, limit = answer["value"], answer["limit"]
    room = limit - value if gate.op.startswith("<") else value - limit
    return room / limit if gate.of_floor and limit > 0 else room


def _at(site: str) -> str:
    return f" at {site}" if site else ""


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _distinct(value: float, limit: float) -> tuple[str, str]:
    """Both in as few digits as show that they differ, where they do."""
    for digits in (3, 4, 6, 9):
        texts = f"{value:.{digits}g}", f"{limit:.{digits}g}"
        if texts[0] != texts[1] or value == limit:
            return texts
    return repr(value), repr(limit)


def _misspelt(site: str | None) -> bool:
    return bool(site) and site != WORST and bool(difflib.get_close_matches(str(site), [WORST], cutoff=0.75))


def _parts(text: str) -> tuple[str, str, str]:
    """What stands left of the operator, the operator, what stands right of it; as written."""
    found = re.fullmatch(r"\s*([^<>=!≤≥]*?)\s*([<>=!≤≥][<>=!≤≥\s]*|)\s*([^<>=!≤≥]*)\s*", text)
    return (found[1], "".join(found[2].split()), found[3].strip()) if found else (text, "", "")


def _wrong(text: str) -> str:
    left, op, right = _parts(text)
    name, _, site = left.partition("@")
    if op not in OPS:
        return f"{op!r} is none of {', '.join(OPS)}" if op else f"it has none of {', '.join(OPS)}"
    if not re.fullmatch(NAME, name):
        return f"{name!r} is no name of a number"
    if "@" in left and (not re.fullmatch(r"[\w.\-]+", site) or _misspelt(site)):
        return f"'@{site}' is no site"
    return f"{right!r} is neither a number nor `number * floor`"


def _near(text: str) -> str:
    """The text with its likely mistakes mended, "" where that makes no gate of it either."""
    left, op, right = _parts(text)
    name, _, site = left.partition("@")
    site = "_".join(site.split())
    site = WORST if _misspelt(site) else site
    op = {"=>": ">=", "=<": "<=", "≥": ">=", "≤": "<=", "==": "", "=": ""}.get(op, op)
    value = re.search(NUMBER, right.replace(",", "."))
    if value is None:
        return ""
    rest = right.replace(",", ".").replace(value[0], "", 1).strip(" *x×").lower()
    limit = value[0]
    if rest == "%":
        limit = f"{float(limit) / 100:g}"
    elif difflib.get_close_matches(rest, ["floor"]):
        limit = f"{limit} * floor"
    mended = f"{'_'.join(name.split())}{'@' + site if site else ''} {op} {limit}"
    found = GATE.fullmatch(mended)
    return mended if found and not _misspelt(found["site"]) else ""
