"""The report's tables of one use: scores by row and site, and a summary sentence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.worth import worth
from fedsynth.worth.ratios import AT_CHANCE, NO_GAP, undefined
from fedsynth.worth.wording import LOWER_IS_BETTER, is_number, label_of

if TYPE_CHECKING:
    import pandas as pd

NOT_A_SHARE = {"hd95"}  # metrics that are not between 0 and 1
REAL = ("local", "federated", "pooled")  # rows of networks trained on real images only
Summary = dict[str, dict[str, dict[str, Any]]]  # from worth.summary: model -> use -> values
POOLED = "pooled"  # the default of `against`
TOGETHER = {"pooled": "all sites' real images together", "federated": "FedAvg over all sites' real images"}


def use_table(
    use: str, rows: worth.Rows, models: list[str], sites: list[str], summary: Summary | None = None
) -> dict[str, Any]:
    """Return a table for each metric of a use, the headline metric first, with retained and gap closed.

    `summary`: from worth.summary, default computed from `rows`. Per-class metrics ("sensitivity.none") are in
    fedsynth/report/by_site.py. `against`: the row that the shares are relative to. In a table, None means "not computed
    or withheld", NaN "computed, but not defined on these images".
    """
    rows = [r for r in rows if r["use"] == use]
    scores = worth.table(rows)
    found = {model: of[use] for model, of in (worth.summary(rows) if summary is None else summary).items() if use in of}
    against = against_of(found)
    public = any(r["name"] == "public" for r in rows)
    lines = [
        *((name, "") for name in (*REAL, *["public"] * public)),
        *((name, model) for model in models for name in ("synthetic", "augmented")),
    ]
    metrics = [m for m in dict.fromkeys(scores["metric"]) if "." not in m] or ["score"]
    tables = [_table(metric, scores[scores["metric"] == metric], lines, sites) for metric in metrics]
    deviations = _deviations(rows, sites)
    for table in tables:
        for line in table["lines"]:
            line["mean_std"] = deviations.get((table["metric"], line["name"], line["model"]), math.nan)
    judge(tables[0]["lines"], found, against)
    seeds = sorted({r["seed"] for r in rows})
    return {"name": use, "tables": tables, "seeds": seeds, "against": against, "public": public}


def against_of(found: dict[str, dict[str, Any]]) -> str:
    """Return the row that a use's shares are relative to: "pooled", or "federated" where images cannot be pooled.

    `found`: by model, from worth.summary.
    """
    return next((of["against"] for of in found.values() if of.get("against")), POOLED)


def _deviations(rows: worth.Rows, sites: list[str]) -> dict[tuple[str, str, str], float]:
    """Return (metric, name, model) -> standard deviation over the seeds (n - 1) of the mean over the sites.

    NaN for a single seed or a missing site. A site that tests only has no networks of its own, and none is missed.
    """
    means: dict[tuple[str, str, str], list[float]] = {}
    for seed in dict.fromkeys(r["seed"] for r in rows):
        scores = worth.table([r for r in rows if r["seed"] == seed])
        for key, part in scores.groupby(["metric", "name", "model"]):
            counted = part[part["why"] != worth.TESTS_ONLY].set_index("site")["value"]
            asked = [site for site in sites if site in counted.index or site not in set(part["site"])]
            means.setdefault(key, []).append(counted.reindex(asked).mean(skipna=False))
    return {key: float(np.std(of, ddof=1)) if len(of) > 1 else math.nan for key, of in means.items()}


def _table(metric: str, scores: pd.DataFrame, lines: list[tuple[str, str]], sites: list[str]) -> dict[str, Any]:
    table = [
        _line(scores[(scores["name"] == name) & (scores["model"] == model)], name, model, sites)
        for name, model in lines
    ]
    choose: Callable = min if metric in LOWER_IS_BETTER else max
    for name in ("synthetic", "augmented"):
        comparable = [line for line in table if line["name"] == name and is_number(line["mean"])]
        if len({number(line["mean"]) for line in comparable}) > 1:
            choose(comparable, key=lambda line: line["mean"])["best"] = True
    counts = scores.drop_duplicates("site").set_index("site")["n"].to_dict()
    about = {
        "metric": metric,
        "label": label_of(metric),
        "lower": metric in LOWER_IS_BETTER,
        "share": metric not in NOT_A_SHARE,
    }
    return about | {"n": {s: counts.get(s) for s in sites}, "lines": table}


def line_of(table: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the line named `name`: local, federated or pooled."""
    return next(line for line in table["lines"] if line["name"] == name)


def _line(scores: pd.DataFrame, name: str, model: str, sites: list[str]) -> dict[str, Any]:
    # None if a site did not answer or withheld the value; NaN stays "undefined"
    values = {
        r.site: worth.TESTS_ONLY if r.why == worth.TESTS_ONLY else None if r.why else r.value
        for r in scores.itertuples()
    }
    deviations = scores.set_index("site")["std"].to_dict()
    cells: dict[str, Any] = {site: values.get(site) for site in sites}
    counted = [value for value in cells.values() if value != worth.TESTS_ONLY]
    mean = None if None in counted or not counted else sum(counted) / len(counted)
    return {
        "name": name,
        "model": model,
        "cells": cells,
        "std": deviations,
        "mean": mean,
        "best": False,
        "judged": {},
        "intervals": {},
    }


def summary_of(facts: dict[str, dict[str, Any]]) -> Summary:
    """Return the `uses` of all facts, in the form of worth.summary."""
    return {model: of.get("uses") or {} for model, of in facts.items()}


def judge(lines: list[dict[str, Any]], summary: dict[str, dict], against: str) -> None:
    """Add retained to the `synthetic` lines and gap closed to the `augmented` lines, in place."""
    local, best = (next(line["mean"] for line in lines if line["name"] == name) for name in ("local", against))
    for line in (line for line in lines if line["model"]):
        of = summary.get(line["model"], {})
        line["chance"] = of.get("chance")
        line["intervals"] = {
            key: ends for key, ends in (of.get("intervals") or {}).items() if ends and is_number(of.get(key))
        }
        if line["name"] == "synthetic":
            word = undefined(of.get("why", {}).get("retained", ""))
            line["judged"] = {"retained": word or settled(of.get("retained"), line["mean"], best),
                              "over_public": of.get("over_public")}  # fmt: skip
            line["beyond"] = points(of.get("over_public"), of.get("over_public_interval"))
        else:
            needed, why = (line["mean"], local, best), of.get("why", {})
            line["judged"] = {
                key: undefined(why.get(key, "")) or settled(of.get(key), *needed)
                for key in ("gap_closed", "gap_closed_poorest")
            }
            line["judged"]["poorest_site"] = of.get("poorest_site")


def settled(value: float | None, *needed: float | None) -> float | None:
    """Return the value if it is a number.

    Otherwise None if one of the numbers that it is computed from is missing, NaN if all are there and it is not
    defined.
    """
    if is_number(value):
        return value
    return None if None in needed else math.nan


def headline(use: dict[str, Any]) -> dict[str, Any]:
    """Return which set is worth most for a use.

    `retained` and `gap_closed` are (model, value); `text` says the same in one or two sentences.
    """
    table = use["tables"][0]
    synthetic = _best(table, "synthetic", lambda line: line["mean"])
    augmented = _best(table, "augmented", lambda line: line["judged"]["gap_closed"]) or _best(
        table, "augmented", lambda line: line["mean"]
    )
    against = use["against"]
    said = {
        "use": use["name"],
        "metric": table["label"],
        "against": against,
        "retained": None,
        "gap_closed": None,
        "text": [],
    }
    if synthetic:
        said["retained"] = synthetic["model"], synthetic["judged"]["retained"]
        said["text"].append(_alone(synthetic, against, line_of(table, against)["mean"], table["label"]))
    if augmented:
        said["gap_closed"] = augmented["model"], augmented["judged"]["gap_closed"]
        said["text"].append(_added(augmented, against, line_of(table, "local")["mean"], table["label"]))
    said["text"] = said["text"] or ["No synthetic set has been scored for this use: what one is worth is missing."]
    return said


def _best(table: dict[str, Any], name: str, value: Callable[[dict], float | None]) -> dict[str, Any] | None:
    known = [line for line in table["lines"] if line["name"] == name and is_number(value(line))]
    return max(known, key=value, default=None)  # type: ignore[arg-type]


def _alone(line: dict[str, Any], against: str, best: float | None, label: str) -> str:
    text = (
        f"Trained on the synthetic set of {line['model']} alone, a network reaches a {label} of {line['mean']:.2f} on"
        " real test images"
    )
    if is_number(line["judged"]["retained"]) and is_number(best):
        chance = f", both counted from chance, {line['chance']:.2f}" if line.get("chance") else ""
        return (
            f"{text}: {percent(line['judged']['retained'])} of the {best:.2f} reached with {TOGETHER[against]}{chance}."
        )
    if line["judged"]["retained"] == AT_CHANCE:
        return f"{text}; that is a share of nothing: with {TOGETHER[against]} hardly more than chance is reached."
    return f"{text}; how much that retains is missing, because there is no {against} reference."


def _added(line: dict[str, Any], against: str, local: float | None, label: str) -> str:
    text = f"Added to a site's own images, the set of {line['model']}"
    gap, poorest = line["judged"]["gap_closed"], line["judged"]["gap_closed_poorest"]
    if not is_number(gap):
        brings = f"{text} {_moves(local, line['mean'], label)}"
        if gap == AT_CHANCE:
            return f"{brings}. There is no gap to close: with {TOGETHER[against]} hardly more than chance is reached."
        if gap == NO_GAP:
            return (
                f"{brings}. There is no gap to close: with {TOGETHER[against]} hardly more is reached than with one"
                " site's own."
            )
        return f"{brings}; how much of the gap that closes is {percent(gap)}."
    if gap < 0:
        return (
            f"{text} does harm: it widens the gap between one site's own images and {TOGETHER[against]} by"
            f" {percent(-gap)}."
        )
    more = f" ({percent(poorest)} at {line['judged']['poorest_site']}, the poorest site)" if is_number(poorest) else ""
    return f"{text} closes {percent(gap)} of the gap between what one site reaches alone and {TOGETHER[against]}{more}."


def _moves(before: float | None, after: float, label: str) -> str:
    if not is_number(before):
        return f"brings the {label} to {after:.2f}"
    if f"{before:.2f}" == f"{after:.2f}":
        return f"leaves the {label} at {after:.2f}"
    return f"{'raises' if after > before else 'lowers'} the {label} from {before:.2f} to {after:.2f}"


def number(value: float | str | None) -> str:
    """Return a number as text; a word such as TESTS_ONLY is returned unchanged."""
    if isinstance(value, str):
        return value
    return "missing" if value is None else f"{value:.2f}" if is_number(value) else "undefined"


def ends(pair: list[float | None] | None) -> str:
    """Return a 95 % interval of a share as text, "81 to 93 %" or "50 % or more"; empty if there is none."""
    if not pair:
        return ""
    low, high = (f"{100 * v:.0f}".replace("-", "−") if is_number(v) else "" for v in pair)
    if low and high:
        return f"{low} to {high}\N{NO-BREAK SPACE}%"
    return (
        f"{low}\N{NO-BREAK SPACE}% or more"
        if low
        else f"{high}\N{NO-BREAK SPACE}% or less"
        if high
        else "without bounds"
    )


def points(value: float | None, pair: list[float | None] | None) -> list[str]:
    """Return a difference and its 95 % interval as text, "+0.12" and "+0.05 to +0.19"."""
    if not is_number(value):
        return ["missing", ""]
    said = [f"{v:+.2f}".replace("-", "−") if is_number(v) else "" for v in (value, *(pair or (None, None)))]
    return [said[0], f"{said[1]} to {said[2]}" if said[1] and said[2] else ""]


def percent(value: float | str | None) -> str:
    """Return a share in percent; a word such as NO_GAP is returned unchanged."""
    if isinstance(value, str):
        return value
    return (
        "missing"
        if value is None
        else f"{100 * value:.0f}\N{NO-BREAK SPACE}%".replace("-", "−")
        if is_number(value)
        else "undefined"
    )
