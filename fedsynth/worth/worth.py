"""The table of worth, and its summary per use and model: retained, gap closed, by site.

A row is one network tested at one site, as in reports/: `{"use", "name", "trained_on", "model", "site", "seed",
"metrics", "n"}`. `local` and `augmented` count at the site that they were trained at, the others everywhere. A use's
first metric is its headline. What was not computed, or withheld for too few images, is None: never 0, never passed; a
row of a site that did not answer is None throughout and has the reason under "left_out". All sites' real images
together are `pooled`, and `federated` where nobody can pool (docs/decisions/0007): every summary says under `against`
which.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fedsynth.data import outputs

if TYPE_CHECKING:
    pass
from fedsynth.worth.intervals import intervals
from fedsynth.worth.ratios import NAMES, SMALLEST_GAP, finite_or_none, gap_closed, retained

Rows = list[dict[str, Any]]


def rows(root: Path, models: list[str] | None = None) -> Rows:
    """All rows under reports/: the reference's, then those of each model (default: of every file that is there)."""
    return [row for answer in _answers(root, models) for row in answer["rows"]]


def spread(root: Path, models: list[str] | None = None) -> Rows:
    """How the rows of the same files vary with the test images: `{"use", "model", "site", "metric", "names",
    "covariance", "n"}`.
    """
    return [of for answer in _answers(root, models) for of in answer.get("spread", [])]


def _answers(root: Path, models: list[str] | None) -> list[dict[str, Any]]:
    folder = root / "reports"
    names = models if models is not None else sorted(p.stem for p in (folder / "score").glob("*.json"))
    found = [outputs.read(folder / "reference.json", "reference")]
    return found + [outputs.read(folder / "score" / f"{name}.json", f"score@{name}") for name in names]


def table(rows: Rows) -> pd.DataFrame:
    """Long: use, metric, name, model, site, value (mean over the seeds), std (over the seeds, n - 1), seeds, n (test
    images: a count, or "< 5", "withheld", None), why (there is no value; "" where that is not known).
    """
    flat = [
        {
            "use": r["use"],
            "metric": metric,
            "name": r["name"],
            "model": r["model"],
            "site": r["site"],
            "value": math.nan if value is None else float(value),
            "seed": r["seed"],
            "n": r["n"].get(metric),
            "why": _unknown(r, metric),
        }
        for r in rows
        if r["name"] not in ("local", "augmented") or r["trained_on"] == r["site"]
        for metric, value in r["metrics"].items()
    ]
    columns = ["use", "metric", "name", "model", "site"]
    frame = pd.DataFrame(flat, columns=[*columns, "value", "seed", "n", "why"])
    frame["n"] = pd.Series([of["n"] for of in flat], dtype=object)  # a count beside None stays whole
    grouped = frame.groupby(columns, sort=False)
    # a seed that could not be scored makes the mean unknown: a mean of fewer would be another quantity
    return grouped.agg(
        value=("value", lambda v: v.mean(skipna=False)),
        std=("value", "std"),
        seeds=("seed", "nunique"),
        n=("n", "first"),
        why=("why", "max"),
    ).reset_index()


def _unknown(row: dict[str, Any], metric: str) -> str:
    """Why a row has no value of a metric, as far as the row says."""
    if row["metrics"][metric] is not None:
        return ""
    if "left_out" in row:
        return f"did not answer: {row['left_out']}"
    n = row["n"].get(metric)
    return (
        f"withheld: {n} test images"
        if isinstance(n, str) and n.startswith("<")
        else "withheld"
        if isinstance(n, str)
        else ""
    )


def headline(rows: Rows, use: str) -> str:
    """The first metric of a use, as the row with the most metrics has them: another may lack what was withheld."""
    return max((list(r["metrics"]) for r in rows if r["use"] == use), key=len)[0]


def against(rows: Rows, use: str) -> str:
    """The row that stands for all sites' real images together in the table of a use: `federated` where nobody could
    pool them.
    """
    return "pooled" if any((r["use"], r["name"]) == (use, "pooled") for r in rows) else "federated"


def summary(rows: Rows, spread: Rows | None = None) -> dict[str, dict[str, dict[str, Any]]]:
    """model -> use -> synthetic, augmented, retained, gap_closed, both by site, gap_closed_poorest, poorest_site,
    headline, against, why, intervals.

    Means over the sites count each site once, however many images it has. `against` is "pooled", or "federated" where
    no row is pooled: what stands for all sites' real images together. `retained` is mean synthetic / mean of that;
    `gap_closed` of the means, too: a site with hardly any gap would decide a mean of ratios. The poorest site has the
    lowest `local`, and is not known where a site's is missing. All are of the headline metric and not corrected for
    chance. What is None has its reason under `why`, of a site as `retained@north`. `intervals` are [low, high] at 95 %
    for other test images of the same sites; an end that is None has no bound, and without `spread` there are none.
    """
    scores = table(rows)
    models = [m for m in dict.fromkeys(r["model"] for r in rows) if m]
    metrics = {use: headline(rows, use) for use in dict.fromkeys(r["use"] for r in rows)}
    return {
        model: {
            use: _of(
                scores[(scores["use"] == use) & (scores["metric"] == metric)],
                model,
                metric,
                against(rows, use),
                list(dict.fromkeys(r["site"] for r in rows if r["use"] == use)),
                {s["site"]: s for s in spread or [] if (s["use"], s["model"]) == (use, model)},
            )
            for use, metric in metrics.items()
        }
        for model in models
    }


def _of(
    scores: pd.DataFrame, model: str, metric: str, other: str, sites: list[str], spread: dict[str, Any]
) -> dict[str, Any]:
    """`sites`: every one of the use, also where a row is missing: means over different sites cannot be compared."""
    own = scores[scores["model"].isin(["", model])]
    by_site = own.pivot(index="site", columns="name", values="value").reindex(index=sites, columns=list(NAMES))
    unknown = own.pivot(index="site", columns="name", values="why").reindex(index=sites, columns=list(NAMES)).fillna("")
    mean = by_site.mean(skipna=False)
    kept = {s: retained(v["synthetic"], v[other]) for s, v in by_site.iterrows()}
    gaps = {s: gap_closed(v["local"], v["augmented"], v[other]) for s, v in by_site.iterrows()}
    # a site whose `local` is missing may be the poorest: often it is, for it was withheld for too few images
    poorest = str(by_site["local"].idxmin()) if by_site["local"].notna().all() else None
    found = {
        "synthetic": mean["synthetic"],
        "augmented": mean["augmented"],
        "retained": retained(mean["synthetic"], mean[other]),
        "gap_closed": gap_closed(mean["local"], mean["augmented"], mean[other]),
        "gap_closed_poorest": gaps[poorest] if poorest is not None else math.nan,
    }
    why = {
        "retained": _why(by_site, unknown, "synthetic", other),
        "gap_closed": _why(by_site, unknown, "augmented", other),
    }
    for site in sites:
        why |= {f"retained@{site}": _why(by_site.loc[[site]], unknown, "synthetic", other),
                f"gap_closed@{site}": _why(by_site.loc[[site]], unknown, "augmented", other)}  # fmt: skip
    lacking = _missing(by_site, unknown, ["local"])
    why["gap_closed_poorest"] = (
        f"the poorest site is not known: {lacking}" if poorest is None else why[f"gap_closed@{poorest}"]
    )
    values = found | {f"retained@{s}": v for s, v in kept.items()} | {f"gap_closed@{s}": v for s, v in gaps.items()}
    return {k: finite_or_none(v) for k, v in found.items()} | {
        "intervals": intervals(by_site, spread, found, poorest, other),
        "retained_by_site": {s: finite_or_none(v) for s, v in kept.items()},
        "gap_closed_by_site": {s: finite_or_none(v) for s, v in gaps.items()},
        "poorest_site": poorest,
        "headline": metric,
        "against": other,
        "why": {k: reason for k, reason in why.items() if finite_or_none(values[k]) is None},
    }


def _why(by_site: pd.DataFrame, unknown: pd.DataFrame, kind: str, other: str) -> str:
    """Why a measure of `kind` could not be computed of these sites' values: what is missing at which of them,
    and why.
    """
    if missing := _missing(
        by_site, unknown, [other, "synthetic"] if kind == "synthetic" else ["local", other, "augmented"]
    ):
        return missing
    mean, at = by_site.mean(), f" at {by_site.index[0]}" if len(by_site) == 1 else ""
    if kind == "synthetic":
        return f"{other} is 0{at}"
    return f"no gap: {other} {mean[other]:.3f} is not {SMALLEST_GAP} above local {mean['local']:.3f}{at}"


def _missing(by_site: pd.DataFrame, unknown: pd.DataFrame, needed: list[str]) -> str:
    """ "no local at south (withheld: < 5 test images), no augmented at north, south" """
    absent = {name: [site for site in by_site.index if not math.isfinite(by_site.at[site, name])] for name in needed}
    said = {
        name: [f"{s} ({why})" if (why := unknown.at[s, name]) else str(s) for s in sites]
        for name, sites in absent.items()
        if sites
    }
    return ", ".join(f"no {name} at {', '.join(sites)}" for name, sites in said.items())
