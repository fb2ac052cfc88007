"""The verdict in words, for each group of readers of the report."""

from __future__ import annotations

from typing import Any

from fedsynth.worth import withdrawn
from fedsynth.worth.wording import (
    LOWER_IS_BETTER,
    Facts,
    compared,
    epsilon_said,
    is_number,
    label_of,
    measured,
    total_said,
)

COPIES = {"pixel": "pixels", "feature": "features", "ssim": "structure", "patch": "patches"}
EXPECTED = ("pixel", "feature")  # a judgement says of these that they are missing
TOO_FEW = "too few to tell"
STATES = {
    "held": "✓ holds",
    "failed": "✗ does not hold",
    "warned": "! does not hold",
    "few": f"? {TOO_FEW}, so it does not hold",
    "missing": "? missing, so it does not hold",
    "unjudged": "? not judged",
}


def state(gate: dict[str, Any] | None) -> str:
    """Return the key of STATES for a gate. A gate on a missing number never holds, whatever its `held` says."""
    if gate is None:
        return "unjudged"
    if not is_number(gate.get("value")) or not is_number(gate.get("limit")):
        return "missing"
    if gate.get("few"):
        return "few"
    return "held" if gate.get("held") else "failed" if gate["kind"] == "require" else "warned"


def held_said(gate: dict[str, Any]) -> str:
    """Return whether a gate holds in two or three words: "holds", "does not hold" or "too few to tell"."""
    return "holds" if gate["held"] else TOO_FEW if gate.get("few") else "does not hold"


def gates_of(of: dict[str, Any]) -> list[dict[str, Any]]:
    return (of.get("verdict") or {}).get("gates") or []


def required(gates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the required gates, on which a promotion depends.

    If there are none, nothing has been shown, and the model must not be promoted.
    """
    return [g for g in gates if g["kind"] == "require"]


def passed(of: dict[str, Any]) -> bool:
    """Whether a model may be promoted: it has required gates, and all of them hold."""
    asked = required(gates_of(of))
    return bool((of.get("verdict") or {}).get("passed")) and bool(asked) and all(state(g) == "held" for g in asked)


def card(model: str, of: dict[str, Any]) -> dict[str, Any]:
    """Return {"model", "passed", "said", "reasons", "warnings"}; without a verdict a model must not be promoted, nor
    where a hospital has withdrawn data that it was trained with.
    """
    asked, gone = required(gates_of(of)), of.get("withdrawn") or []
    may = passed(of) and not gone
    broken = [g for g in asked if state(g) != "held"]
    warned = [g for g in gates_of(of) if g["kind"] != "require" and state(g) != "held"]
    if failed := of.get("missing"):
        said = f"must not be promoted: {failed['stage']} failed: {failed['why']}"
    elif gone:
        said = f"must not be promoted: {withdrawn.sentence(gone)}"
    elif not of.get("verdict"):
        said = "must not be promoted: it has not been judged"
    elif not asked:
        said = "must not be promoted: params.yaml requires nothing of it"
    elif not may:
        few = [state(g) for g in broken].count("few")
        said = (
            f"must not be promoted: {len(broken)} of {_gates(len(asked))} {'does' if len(broken) == 1 else 'do'} not"
            f" hold{f', {few} of them for too few images to tell' if few else ''}"
        )
    else:
        said = (
            f"may be promoted: all of {_gates(len(asked))} hold"
            if len(asked) > 1
            else "may be promoted: the required gate holds"
        )
    return {
        "model": model,
        "passed": may,
        "said": said,
        "reasons": [sentence(g) for g in broken],
        "warnings": [sentence(g) for g in warned],
    }


def _gates(n: int) -> str:
    return f"{n} required gate{'' if n == 1 else 's'}"


def sentence(gate: dict[str, Any]) -> str:
    """Return a gate with its reason: "fid <= 3 * floor: 4.1 is above 3.6"."""
    return f"{gate['gate']}: {gate.get('reason') or STATES[state(gate)]}"


def gate_table(facts: Facts) -> list[dict[str, Any]]:
    """Return one row for each gate, in the order of params.yaml.

    A row is {"gate", "kind", "cells": {model: {"state", "said", "value", "limit", "reason"}}}.
    """
    lines = dict.fromkeys((g["kind"], g["gate"]) for of in facts.values() for g in gates_of(of))
    found = {model: {(g["kind"], g["gate"]): g for g in gates_of(of)} for model, of in facts.items()}
    return [
        {"gate": key[1], "kind": key[0], "cells": {m: _gate_cell(found[m].get(key)) for m in facts}} for key in lines
    ]


def _gate_cell(gate: dict[str, Any] | None) -> dict[str, Any]:
    of = gate or {}
    numbers = {key: measured(of.get(key)) for key in ("value", "limit")}
    numbers["value"] += _interval(of)
    return {"state": state(gate), "said": STATES[state(gate)], "reason": of.get("reason", ""), **numbers}


def _interval(gate: dict[str, Any]) -> str:
    """Return the interval that a gate was held by in brackets, "" if it was its value alone."""
    low, high = (measured(v) if is_number(v) else "no bound" for v in (gate.get("low"), gate.get("high")))
    return f" ({low} to {high})" if gate.get("by") == "bound" and low != high else ""


def readers(facts: Facts, by_class: list[dict[str, Any]], jobs: dict[str, str]) -> list[dict[str, Any]]:
    """Return an entry for each group of readers (clinician, data protection, engineer).

    An entry is {"who", "asks", "links", "answers": {model: sentences}}.
    """
    return [
        {"who": "For the clinician", "asks": "Where does it serve worst, and is a network's confidence to be trusted?",
         "links": {"by site and class": "#where", "pictures that fit least": "#failures"},
         "answers": {m: _clinician(m, of, by_class) for m, of in facts.items()}},
        {"who": "For data protection", "asks": "Are there copies, can a patient be recognised, what is proven?",
         "links": {"what it gives away": "#privacy", "what leaves a site": "#limits"},
         "answers": {m: _protection(of) for m, of in facts.items()}},
        {"who": "For the engineer", "asks": "Where does it come from, and how was each number made?",
         "links": {"how": "#how", "validation": "#validation"},
         "answers": {m: _engineer(of, jobs.get(m, "")) for m, of in facts.items()}},
    ]  # fmt: skip


def _clinician(model: str, of: dict[str, Any], by_class: list[dict[str, Any]]) -> str:
    said = []
    for use, metrics in (of.get("scores") or {}).items():
        metric = ((of.get("uses") or {}).get(use) or {}).get("headline") or next(iter(metrics), "")
        found = metrics.get(metric) or {}
        values = {s: v for s, v in (found.get("sites") or {}).items() if is_number(v)}
        if values:
            chosen = (max if metric in LOWER_IS_BETTER else min)(values, key=lambda s: values[s])
            site = found.get("worst_site") if found.get("worst_site") in values else chosen
            rest = ", of those known" if len(values) < len(found["sites"]) else ""
            said.append(f"{use} is worst at {site} ({label_of(metric)} {values[site]:.2f}{rest})")
    said += [
        f"lowest of a class: {w['label']} at {w['site']}, {w['value']:.2f}{w['rest']}"
        for t in by_class
        if (w := t["worst"].get(model))
    ]
    errors = [v for m in (of.get("scores") or {}).values() if is_number(v := (m.get("ece") or {}).get("mean"))]
    said.append(f"calibration error {errors[0]:.2f}" if errors else "calibration error missing")
    return "; ".join(said) + "."


def membership(of: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the AUC of each kind of membership attack that a judgement should have; empty where it is missing.

    The attack with reference models counts where it was asked for.
    """
    found = of.get("measures") or {}
    kinds = ("distance", "loss", *(["reference"] if "membership_reference_auc" in found else []))
    return {kind: found.get(f"membership_{kind}_auc") or {} for kind in kinds}


def strongest(of: dict[str, Any]) -> dict[str, Any]:
    """Return the number of the strongest membership attack: `membership_auc`, else the largest that is known."""
    known = [number for number in membership(of).values() if is_number(number.get("value"))]
    whole = (of.get("measures") or {}).get("membership_auc") or {}
    return whole if is_number(whole.get("value")) else max(known, key=lambda number: number["value"], default={})


def _protection(of: dict[str, Any]) -> str:
    value = {name: (number or {}).get("value") for name, number in (of.get("measures") or {}).items()}
    counts = [
        f"{measured(value.get(f'copies_{space}'))} by {by}"
        for space, by in COPIES.items()
        if f"copies_{space}" in value or space in EXPECTED
    ]
    copies = f"{', '.join(counts[:-1])} and {counts[-1]}"
    if is_number(power := value.get("copy_power")):
        copies += f" (a copy of one image would have been found in {100 * power:.0f} %)"
    known = [v for number in membership(of).values() if is_number(v := number.get("value"))]
    most = strongest(of).get("value")
    attack = f"membership AUC {measured(most)} at most (0.5 is guessing)" if known else "membership AUC missing"
    partly = ", of one attack only" if len(known) == 1 else ""
    spent, total = epsilon_said(of)[0], total_said(of)[0]
    bound = {"none": "no differential privacy, so nothing is proven", "missing": "epsilon missing"}.get(
        spent, f"epsilon {spent} for {compared(of.get('epsilon') or {})}, {total} of all trainings for one subject"
    )
    shown = [v for name in ("membership_epsilon", "canaries_epsilon") if is_number(v := value.get(name))]
    if shown and is_number((of.get("epsilon") or {}).get("epsilon")):
        bound += f", and attacks show an epsilon of {max(shown):g} or more"
    return f"Copies {copies}; {attack}{partly}; {bound}."


def _engineer(of: dict[str, Any], job: str) -> str:
    states = [state(g) for g in gates_of(of)]
    if not states:
        return f"No gate was judged; {job}."
    lacking = f", {n} for want of a number" if (n := states.count("missing")) else ""
    lacking += f", {n} for too few images to tell" if (n := states.count("few")) else ""
    return f"{len(states) - states.count('held')} of {len(states)} gates do not hold{lacking}; {job}."
