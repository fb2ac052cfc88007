"""What a synthetic set is worth: each row of scores against what the uses reach on real images.

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

import numpy as np
import pandas as pd

from fedsynth.data import outputs

if TYPE_CHECKING:
    from rich.console import Group

Rows = list[dict[str, Any]]
NAMES = ("local", "federated", "pooled", "synthetic", "augmented")
DRAWS = 4000  # of the sites' metrics together, from how they vary with their test images
SMALLEST_GAP = 0.05  # one or two test images of a small site make that much: a ratio to less says nothing


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


def gap_closed(local: float, augmented: float, together: float) -> float:
    """(augmented - local) / (together - local): 0 is no better than a site's own images, 1 is as good as all sites'
    images together.

    NaN where `together` is not at least SMALLEST_GAP above `local`: there is no gap to close.
    """
    gap = together - local
    return (augmented - local) / gap if gap >= SMALLEST_GAP else math.nan


def retained(synthetic: float, together: float) -> float:
    """synthetic / together: 1 is as good as all sites' real images together. NaN where `together` is 0."""
    return synthetic / together if together else math.nan


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


def intervals(by_site: pd.DataFrame, spread: dict[str, Any], found: dict[str, float], poorest: str | None,
              other: str) -> dict[str, Any]:  # fmt: skip
    """name -> [low, high] at 95 %, or None where the value or the spread of a site is missing.

    Each site has sent how its rows vary together (a paired bootstrap's covariance), and its test images are its own: so
    the rows of each site are drawn as normal vectors, and the measures computed of every draw. Where a draw has no gap,
    what is closed of it has no bound: the interval is then open to that side, as Fieller's (1954) is for a ratio whose
    denominator may be 0.
    """
    names = [n for n in NAMES if by_site[n].notna().all()]
    usable = all(
        site in spread and spread[site]["covariance"] is not None and set(names) <= set(spread[site]["names"])
        for site in by_site.index
    )
    if not len(by_site) or not usable:
        return dict.fromkeys(("retained", "gap_closed", "gap_closed_poorest"))
    rng = np.random.default_rng(0)
    drawn = {}
    for site, values in by_site.iterrows():
        places = [spread[site]["names"].index(n) for n in names]
        covariance = np.array(spread[site]["covariance"])[np.ix_(places, places)]
        of = rng.multivariate_normal(values[names].to_numpy(float), covariance, DRAWS, check_valid="ignore")
        drawn[site] = {n: of[:, i] for i, n in enumerate(names)}
    mean = {n: np.mean([d[n] for d in drawn.values()], 0) for n in names}
    draws = {
        "retained": _ratio(mean, "synthetic", other),
        "gap_closed": _gaps(mean, other),
        "gap_closed_poorest": _gaps(drawn.get(poorest, {}), other),
    }
    return {k: _ends(d) if d is not None and math.isfinite(found[k]) else None for k, d in draws.items()}


def _ratio(drawn: dict[str, np.ndarray], above: str, below: str) -> np.ndarray | None:
    return drawn[above] / drawn[below] if {above, below} <= set(drawn) else None


def _gaps(drawn: dict[str, np.ndarray], other: str) -> np.ndarray | None:
    if not {"local", other, "augmented"} <= set(drawn):
        return None
    closed, gap = drawn["augmented"] - drawn["local"], drawn[other] - drawn["local"]
    return np.where(gap > 0, closed / np.where(gap > 0, gap, 1), np.sign(closed) * math.inf)


def _ends(drawn: np.ndarray) -> list[float | None]:
    low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
    return [finite_or_none(low), finite_or_none(high)]


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


def finite_or_none(value: float) -> float | None:
    """Rounded, or None where it could not be computed."""
    return round(float(value), 4) if math.isfinite(value) else None


def cells(rows: Rows, use: str) -> tuple[list[str], list[list[str]]]:
    """The table of one use as text: a head and a line for each reference and every model's synthetic and augmented."""
    scores, metric, worth = table(rows).rename(columns={"name": "kind"}), headline(rows, use), summary(rows)
    scores = scores[(scores.use == use) & (scores.metric == metric)]
    sites, together = list(dict.fromkeys(r["site"] for r in rows if r["use"] == use)), against(rows, use)
    lines = [
        ("local", ""),
        ("federated", ""),
        ("pooled", ""),
        *((kind, model) for model in worth for kind in ("synthetic", "augmented")),
    ]
    out = []
    for kind, model in lines:
        values = scores[(scores.kind == kind) & (scores.model == model)].set_index("site")["value"]
        if not len(values):
            continue
        numbers = [values.get(site, math.nan) for site in sites]
        own = worth.get(model, {}).get(use, {})
        share = (
            [own.get("retained"), None, None]
            if kind == "synthetic"
            else [None, own.get("gap_closed"), own.get("gap_closed_poorest")]
        )
        why = [own.get("why", {}).get(key, "") for key in ("retained", "gap_closed", "gap_closed_poorest")]
        measures = [
            _percent(v, why[i]) if model and i in ({0} if kind == "synthetic" else {1, 2}) else ""
            for i, v in enumerate(share)
        ]
        out.append([f"{kind} {model}".strip(), *map(_number, numbers), _number(sum(numbers) / len(numbers)), *measures])
    shares = [f"retained of {together}", f"gap to {together} closed", "at the poorest site"]
    return [f"{use} ({metric.replace('_', ' ')})", *sites, "mean", *shares], out


def _number(value: float) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _percent(value: float | None, why: str) -> str:
    return f"{100 * value:.0f} %" if value is not None else "no gap" if why.startswith("no gap") else "missing"


def text(rows: Rows) -> Group:
    """For the terminal: one table for each use."""
    from rich.console import Group
    from rich.table import Table

    tables: list[Any] = []
    for use in dict.fromkeys(r["use"] for r in rows):
        head, lines = cells(rows, use)
        shown = Table(box=None, pad_edge=False, title_justify="left")
        for i, name in enumerate(head):
            shown.add_column(name, justify="left" if i == 0 else "right", style="" if i == 0 else None, no_wrap=True)
        for line in lines:
            shown.add_row(*line, style="dim" if line[0] in ("local", "federated", "pooled") else "")
        tables += [shown, ""]
    return Group(*tables)
