"""What a synthetic set is worth: each row of scores against what the uses reach on real images (DESIGN: the gap closed, what is retained).

A row is one network tested at one site, as in reports/: `{"use", "name", "trained_on", "model", "site", "seed", "metrics", "n"}`. `local`
and `augmented` count at the site that they were trained at, `pooled` and `synthetic` everywhere. A use's first metric is its headline.
What was not computed, or withheld for too few images, is None: never 0, never passed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fedsynth import outputs

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
    """How the rows of the same files vary with the test images: `{"use", "model", "site", "metric", "names", "covariance", "n"}`."""
    return [of for answer in _answers(root, models) for of in answer.get("spread", [])]


def _answers(root: Path, models: list[str] | None) -> list[dict[str, Any]]:
    folder = root / "reports"
    names = models if models is not None else sorted(p.stem for p in (folder / "score").glob("*.json"))
    found = [outputs.read(folder / "reference.json", "reference")]
    return found + [outputs.read(folder / "score" / f"{name}.json", f"score@{name}") for name in names]


def table(rows: Rows) -> pd.DataFrame:
    """Long: use, metric, name, model, site, value (mean over the seeds), std (over the seeds, n - 1), seeds, n (test images)."""
    flat = [
        {"use": r["use"], "metric": metric, "name": r["name"], "model": r["model"], "site": r["site"],
         "value": math.nan if value is None else float(value), "seed": r["seed"], "n": r["n"].get(metric)}
        for r in rows if r["name"] not in ("local", "augmented") or r["trained_on"] == r["site"]
        for metric, value in r["metrics"].items()
    ]  # fmt: skip
    columns = ["use", "metric", "name", "model", "site"]
    frame = pd.DataFrame(flat, columns=[*columns, "value", "seed", "n"])
    grouped = frame.groupby(columns, sort=False)
    # a seed that could not be scored makes the mean unknown: a mean of fewer would be another quantity
    return grouped.agg(
        value=("value", lambda v: v.mean(skipna=False)), std=("value", "std"), seeds=("seed", "nunique"), n=("n", "first")
    ).reset_index()


def headline(rows: Rows, use: str) -> str:
    return next(iter(next(r["metrics"] for r in rows if r["use"] == use)))


def gap_closed(local: float, augmented: float, pooled: float) -> float:
    """(augmented - local) / (pooled - local): 0 is no better than a site's own images, 1 is as good as all sites' images together.

    NaN where `pooled` is not at least SMALLEST_GAP above `local`: there is no gap to close.
    """
    gap = pooled - local
    return (augmented - local) / gap if gap >= SMALLEST_GAP else math.nan


def retained(synthetic: float, pooled: float) -> float:
    """synthetic / pooled: 1 is as good as all sites' real images together. NaN where `pooled` is 0."""
    return synthetic / pooled if pooled else math.nan


def summary(rows: Rows, spread: Rows | None = None) -> dict[str, dict[str, dict[str, Any]]]:
    """model -> use -> synthetic, augmented, retained, gap_closed, both by site, gap_closed_poorest, poorest_site, headline, why, intervals.

    Means over the sites count each site once, however many images it has. `retained` is mean synthetic / mean pooled; `gap_closed` of the
    means, too: a site with hardly any gap would decide a mean of ratios. The poorest site has the lowest `local`. All are of the headline
    metric and not corrected for chance. What is None has its reason under `why`. `intervals` are [low, high] at 95 % for other test images
    of the same sites; an end that is None has no bound, and without `spread` there are none.
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
                {s["site"]: s for s in spread or [] if (s["use"], s["model"]) == (use, model)},
            )
            for use, metric in metrics.items()
        }
        for model in models
    }


def _of(scores: pd.DataFrame, model: str, metric: str, spread: dict[str, Any]) -> dict[str, Any]:
    own = scores[scores["model"].isin(["", model])]
    # every site of the use, also where a row is missing: means over different sites cannot be compared
    sites = list(dict.fromkeys(scores["site"]))
    by_site = own.pivot(index="site", columns="name", values="value").reindex(index=sites, columns=list(NAMES))
    mean = by_site.mean(skipna=False)
    gaps = {s: gap_closed(v["local"], v["augmented"], v["pooled"]) for s, v in by_site.iterrows()}
    local = by_site["local"]
    poorest = str(local.idxmin()) if local.notna().any() else None
    found = {
        "synthetic": mean["synthetic"],
        "augmented": mean["augmented"],
        "retained": retained(mean["synthetic"], mean["pooled"]),
        "gap_closed": gap_closed(mean["local"], mean["augmented"], mean["pooled"]),
        "gap_closed_poorest": gaps[poorest] if poorest is not None else math.nan,
    }
    why = {"retained": _why(mean, "synthetic"), "gap_closed": _why(mean, "augmented"),
           "gap_closed_poorest": _why(by_site.loc[poorest], "augmented") if poorest is not None else "no local"}  # fmt: skip
    return {k: known(v) for k, v in found.items()} | {
        "intervals": intervals(by_site, spread, found, poorest),
        "retained_by_site": {s: known(retained(v["synthetic"], v["pooled"])) for s, v in by_site.iterrows()},
        "gap_closed_by_site": {s: known(v) for s, v in gaps.items()}, "poorest_site": poorest, "headline": metric,
        "why": {k: reason for k, reason in why.items() if known(found[k]) is None},
    }  # fmt: skip


def intervals(by_site: pd.DataFrame, spread: dict[str, Any], found: dict[str, float], poorest: str | None) -> dict[str, Any]:
    """name -> [low, high] at 95 %, or None where the value or the spread of a site is missing.

    Each site has sent how its rows vary together (a paired bootstrap's covariance), and its test images are its own: so the rows of each
    site are drawn as normal vectors, and the measures computed of every draw. Where a draw has no gap, what is closed of it has no bound:
    the interval is then open to that side, as Fieller's (1954) is for a ratio whose denominator may be 0.
    """
    names = [n for n in NAMES if by_site[n].notna().all()]
    usable = all(
        site in spread and spread[site]["covariance"] is not None and set(names) <= set(spread[site]["names"]) for site in by_site.index
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
        "retained": _ratio(mean, "synthetic", "pooled"),
        "gap_closed": _gaps(mean),
        "gap_closed_poorest": _gaps(drawn.get(poorest, {})),
    }
    return {k: _ends(d) if d is not None and math.isfinite(found[k]) else None for k, d in draws.items()}


def _ratio(drawn: dict[str, np.ndarray], above: str, below: str) -> np.ndarray | None:
    return drawn[above] / drawn[below] if {above, below} <= set(drawn) else None


def _gaps(drawn: dict[str, np.ndarray]) -> np.ndarray | None:
    if not {"local", "pooled", "augmented"} <= set(drawn):
        return None
    closed, gap = drawn["augmented"] - drawn["local"], drawn["pooled"] - drawn["local"]
    return np.where(gap > 0, closed / np.where(gap > 0, gap, 1), np.sign(closed) * math.inf)


def _ends(drawn: np.ndarray) -> list[float | None]:
    low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
    return [known(low), known(high)]


def _why(values: pd.Series, kind: str) -> str:
    """Why a measure of `kind` could not be computed from one line of local, pooled, synthetic, augmented."""
    needed = ["pooled", "synthetic"] if kind == "synthetic" else ["local", "pooled", "augmented"]
    if missing := [name for name in needed if not math.isfinite(values[name])]:
        return "no " + ", no ".join(missing)
    if kind == "synthetic":
        return "pooled is 0"
    return f"no gap: pooled {values['pooled']:.3f} is not {SMALLEST_GAP} above local {values['local']:.3f}"


def known(value: float) -> float | None:
    """Rounded, or None where it could not be computed."""
    return round(float(value), 4) if math.isfinite(value) else None


def cells(rows: Rows, use: str) -> tuple[list[str], list[list[str]]]:
    """The table of one use as text: a head and a line for each reference and every model's synthetic and augmented."""
    scores, metric, worth = table(rows).rename(columns={"name": "kind"}), headline(rows, use), summary(rows)
    scores = scores[(scores.use == use) & (scores.metric == metric)]
    sites = list(dict.fromkeys(scores["site"]))
    lines = [("local", ""), ("federated", ""), ("pooled", ""), *((kind, model) for model in worth for kind in ("synthetic", "augmented"))]
    out = []
    for kind, model in lines:
        values = scores[(scores.kind == kind) & (scores.model == model)].set_index("site")["value"]
        if not len(values):
            continue
        numbers = [values.get(site, math.nan) for site in sites]
        own = worth.get(model, {}).get(use, {})
        share = [own.get("retained"), None, None] if kind == "synthetic" else [None, own.get("gap_closed"), own.get("gap_closed_poorest")]
        why = [own.get("why", {}).get(key, "") for key in ("retained", "gap_closed", "gap_closed_poorest")]
        measures = [_percent(v, why[i]) if model and i in ({0} if kind == "synthetic" else {1, 2}) else "" for i, v in enumerate(share)]
        out.append([f"{kind} {model}".strip(), *map(_number, numbers), _number(sum(numbers) / len(numbers)), *measures])
    return [f"{use} ({metric.replace('_', ' ')})", *sites, "mean", "retained", "gap closed", "poorest site"], out


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
