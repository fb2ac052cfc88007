"""Data for comparing runs: numbers for `dvc exp show`, long tables for `dvc plots`, and the verdict of each model."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from fedsynth.report import curves, tradeoff
from fedsynth.report.use_tables import Summary
from fedsynth.worth import worth
from fedsynth.worth.judgement import card, gates_of, passed, required, state
from fedsynth.worth.wording import Facts, is_number, mean_of_uses

OTHERS = ("measures", "gates")  # keys beside the uses
SHARES = ("retained", "gap_closed", "gap_closed_poorest", "synthetic", "augmented")


def metrics(summary: Summary, facts: Facts) -> dict[str, Any]:
    """Return the numbers that DVC shows; a missing number has no key.

    {model: {use: {SHARES}, "measures": {name: value}, "gates": {"passed", "failed", "few", "missing"}}}. A null or a
    word would break DVC's columns. A required gate that does not hold counts as failed, as too few to tell or as
    missing.
    """
    return {
        model: _metrics(summary.get(model, {}), facts.get(model, {})) for model in dict.fromkeys([*summary, *facts])
    }


def headline(numbers: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return {"retained": {model: mean over the uses}}, few enough columns for the width of a terminal.

    `numbers`: as `metrics` returns them. A model of which a use has no such number has no key.
    """
    kept = {model: mean_of_uses(use.get("retained") for name, use in of.items() if name not in OTHERS)
            for model, of in numbers.items()}  # fmt: skip
    return {"retained": {model: mean for model, mean in kept.items() if mean is not None}}


def _metrics(uses: dict[str, dict[str, Any]], of: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {use: {key: s[key] for key in SHARES if is_number(s.get(key))} for use, s in uses.items()}
    values = {name: (number or {}).get("value") for name, number in (of.get("measures") or {}).items()}
    found["measures"] = {name: value for name, value in values.items() if is_number(value)}
    if spent := of.get("epsilon"):
        said = {"epsilon": spent.get("epsilon"), "epsilon_total": spent.get("total")}
        found["measures"] |= {name: value for name, value in said.items() if is_number(value)}
    if of.get("verdict"):
        states = [state(g) for g in required(gates_of(of))]
        found["gates"] = {"passed": passed(of), **{name: states.count(name) for name in ("failed", "few", "missing")}}
    return {name: numbers for name, numbers in found.items() if numbers}


def verdicts(facts: Facts) -> dict[str, Any]:
    """Return model -> {"passed", "said", "gates"}.

    A model without a verdict, or without required gates, is not passed, and `said` says so.
    """
    return {
        model: {"passed": passed(of), "said": card(model, of)["said"], "gates": gates_of(of)}
        for model, of in facts.items()
    }


def plots(
    rows: worth.Rows, facts: Facts, histories: dict[str, dict[str, Any]], uses: list[str]
) -> dict[str, pd.DataFrame]:
    """Return long tables by name; an empty cell is a missing number.

    - tradeoff: model, membership_auc, retained
    - rounds: model, round, player, loss (mean over the sites)
    - worth: model, use, name, site, value (of the headline metric)
    """
    points = [(p.model, p.auc, p.retained) for p in tradeoff.points(facts, uses)]
    scores = worth.table(rows)
    heads = {use: worth.headline(rows, use) for use in dict.fromkeys(r["use"] for r in rows)}
    main = scores[[heads.get(use) == metric for use, metric in zip(scores["use"], scores["metric"], strict=True)]]
    return {
        "tradeoff": pd.DataFrame(points, columns=["model", "membership_auc", "retained"]),
        "rounds": pd.DataFrame(_rounds(histories), columns=["model", "round", "player", "loss"]),
        "worth": main[["model", "use", "name", "site", "value"]].reset_index(drop=True),
    }


def _rounds(histories: dict[str, dict[str, Any]]) -> list[tuple[str, int, str, float]]:
    found: dict[tuple[str, int, str], list[float]] = {}
    for model, history in histories.items():
        for player, sites in curves.by_player(history).items():
            for number, loss in (point for points in sites.values() for point in points):
                found.setdefault((model, number, player), []).append(loss)
    return [
        (model, number, player, math.fsum(losses) / len(losses)) for (model, number, player), losses in found.items()
    ]
