"""The table of worth, and its summary for each model and use: retained and gap closed, by site.

A row is one network tested at one site, as in the files of reports/: `{"use", "name", "trained_on", "model", "site",
"seed", "metrics", "n", "chance"}`; `chance` is what a network reaches there that has learned nothing, 0 by default.
Rows `local` and `augmented` count only at the site where they were trained, the others at all sites. The first metric
of a use is its headline metric.

A value that was not computed, or was withheld because of too few images, is None, never 0; it never passes a gate. If a
site did not answer, all values of its row are None and "left_out" has the reason. A site that tests only
(`split.test_only`) trains no network of its own: its rows `local` and `augmented` say "tests_only", and gap closed is
of the other sites. A site that trains only has no row. The reference on all sites' real
images is `pooled`, or `federated` where images cannot be pooled (docs/decisions/0007); `against` in every summary says
which.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from fedsynth.data import outputs
from fedsynth.worth import intervals
from fedsynth.worth.intervals import Ends
from fedsynth.worth.over_public import over_public
from fedsynth.worth.ratios import (
    AT_CHANCE,
    NAMES,
    NO_GAP,
    SMALLEST_GAP,
    at_chance,
    finite_or_none,
    gap_closed,
    retained,
)

Rows = list[dict[str, Any]]
TESTS_ONLY = "tests only"  # why a site has no value of its own networks
NO_SITE = "no site both trains and tests"


def rows(root: Path, models: list[str] | None = None) -> Rows:
    """Return all rows under reports/: those of the reference, then those of each model.

    `models`: default all models that have a file.
    """
    return [row for answer in _answers(root, models) for row in answer["rows"]]


def spread(root: Path, models: list[str] | None = None) -> Rows:
    """Return the covariances of the rows over the test subjects, from the same files as `rows`.

    Each is `{"use", "model", "site", "metric", "names", "covariance", "n"}`.
    """
    return [of for answer in _answers(root, models) for of in answer.get("spread", [])]


def _answers(root: Path, models: list[str] | None) -> list[dict[str, Any]]:
    folder = root / "reports"
    names = models if models is not None else sorted(p.stem for p in (folder / "score").glob("*.json"))
    found = [outputs.read(folder / "reference.json", "reference")]
    return found + [outputs.read(folder / "score" / f"{name}.json", f"score@{name}") for name in names]


def table(rows: Rows) -> pd.DataFrame:
    """Return the rows as a long table.

    Columns: use, metric, name, model, site, value (mean over the seeds), std (over the seeds, n - 1), seeds (their
    number), n (test images: a count, "< 5", "withheld" or None), why (why there is no value; "" if unknown).
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
    frame["n"] = pd.Series([of["n"] for of in flat], dtype=object)  # keeps counts int beside None
    grouped = frame.groupby(columns, sort=False)
    # a seed without a score makes the mean unknown: a mean over fewer seeds is another quantity
    return grouped.agg(
        value=("value", lambda v: v.mean(skipna=False)),
        std=("value", "std"),
        seeds=("seed", "nunique"),
        n=("n", "first"),
        why=("why", "max"),
    ).reset_index()


def _unknown(row: dict[str, Any], metric: str) -> str:
    """Return why a row has no value of a metric; "" if it has one or the reason is unknown."""
    if row["metrics"][metric] is not None:
        return ""
    if "left_out" in row:
        return f"did not answer: {row['left_out']}"
    if "tests_only" in row:
        return TESTS_ONLY
    n = row["n"].get(metric)
    return (
        f"withheld: {n} test images"
        if isinstance(n, str) and n.startswith("<")
        else "withheld"
        if isinstance(n, str)
        else ""
    )


def headline(rows: Rows, use: str) -> str:
    """Return the first metric of a use, from the row with the most metrics: in others, some may be withheld."""
    return max((list(r["metrics"]) for r in rows if r["use"] == use), key=len)[0]


def tested(rows: Rows, use: str, metric: str) -> dict[str, int | None]:
    """Return site -> the number of test images behind a metric of a use; None where it is not told."""
    found = {r["site"]: r["n"].get(metric) for r in rows if r["use"] == use}
    return {site: n if isinstance(n, int) else None for site, n in found.items()}


def against(rows: Rows, use: str) -> str:
    """Return the reference row of a use: `pooled`, or `federated` where images cannot be pooled.

    It is the network trained on all sites' real images.
    """
    return "pooled" if any((r["use"], r["name"]) == (use, "pooled") for r in rows) else "federated"


def summary(rows: Rows, spread: Rows | None = None) -> dict[str, dict[str, dict[str, Any]]]:
    """Return model -> use -> what the model's synthetic set is worth.

    - `synthetic`, `augmented`: means over the sites; each site counts once, however many images it has.
    - `against`: the reference on all sites' real images: "pooled", or "federated" if there is no pooled row.
    - `retained`: (mean synthetic - chance) / (mean reference - chance).
    - `gap_closed`: (augmented - local) / (reference - local) of the means over the sites that train and test; in a mean
      of ratios, a site with hardly any gap would dominate.
    - `retained_by_site`, `gap_closed_by_site`; `poorest_site`: the site with the lowest `local`, None if a site's
      `local` is missing; `gap_closed_poorest`: the gap closed there.
    - `public`, `over_public`, ...: what public images reach and what `synthetic` is beyond (worth/over_public.py).
    - `headline`: the metric of all of these; `chance`: what a network without knowledge reaches, mean over the sites.
    - `why`: the reason for each value that is None, for a site under `retained@<site>`.
    - `intervals`: [low, high] at 95 % of `synthetic`, `retained`, `gap_closed`, `gap_closed_poorest` and, with
      `@<site>`, of the first three at a site: for other test subjects of the same sites and, with several `seeds`
      (their number), for other seeds of the uses' networks. An end that is None has no bound; all are None without
      `spread`.
    - `seed_intervals`: the same for other seeds alone.
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
                [r for r in rows if r["use"] == use and r["model"] in ("", model)],
                list(dict.fromkeys(r["site"] for r in rows if r["use"] == use)),
                {s["site"]: s for s in spread or [] if (s["use"], s["model"]) == (use, model)},
            )
            for use, metric in metrics.items()
        }
        for model in models
    }


def _of(
    scores: pd.DataFrame, model: str, metric: str, other: str, rows: Rows, sites: list[str], spread: dict[str, Any]
) -> dict[str, Any]:
    """Return the summary of one model and use.

    `rows`: of the use, the references' and the model's; `sites`: all sites of the use, also those where a row is
    missing: means over different sites cannot be compared.
    """
    own = scores[scores["model"].isin(["", model])]
    by_site = own.pivot(index="site", columns="name", values="value").reindex(index=sites, columns=list(NAMES))
    unknown = own.pivot(index="site", columns="name", values="why").reindex(index=sites, columns=list(NAMES)).fillna("")
    own_networks = by_site[(unknown[["local", "augmented"]] != TESTS_ONLY).all(axis=1)]  # of sites that train and test
    chance = pd.Series({r["site"]: r.get("chance", 0.0) for r in reversed(rows)}, dtype=float).reindex(sites)
    mean, mean_own = by_site.mean(skipna=False), own_networks.mean(skipna=False)
    kept = {s: retained(v["synthetic"], v[other], chance[s]) for s, v in by_site.iterrows()}
    gaps = {s: gap_closed(v["local"], v["augmented"], v[other], chance[s]) for s, v in own_networks.iterrows()}
    # a site without `local` may be the poorest: a value is often withheld because the site has few images
    known = len(own_networks) and own_networks["local"].notna().all()
    poorest = str(own_networks["local"].idxmin()) if known else None
    found = {
        "synthetic": mean["synthetic"],
        "augmented": mean_own["augmented"],
        "retained": retained(mean["synthetic"], mean[other], chance.mean()),
        "gap_closed": gap_closed(
            mean_own["local"], mean_own["augmented"], mean_own[other], chance[own_networks.index].mean()
        ),
        "gap_closed_poorest": gaps[poorest] if poorest is not None else math.nan,
    }
    why = {
        "retained": _why(by_site, unknown, "synthetic", other, chance),
        "gap_closed": _why(own_networks, unknown, "augmented", other, chance),
    }
    why |= {f"retained@{site}": _why(by_site.loc[[site]], unknown, "synthetic", other, chance) for site in sites}
    why |= {f"gap_closed@{site}": _why(own_networks.loc[[site]], unknown, "augmented", other, chance) for site in gaps}
    if poorest is not None:
        why["gap_closed_poorest"] = why[f"gap_closed@{poorest}"]
    else:
        lacking = _missing(own_networks, unknown, ["local"]) or NO_SITE
        why["gap_closed_poorest"] = f"the poorest site is not known: {lacking}"
    values = found | {f"synthetic@{s}": v for s, v in by_site["synthetic"].items()}
    values |= {f"retained@{s}": v for s, v in kept.items()} | {f"gap_closed@{s}": v for s, v in gaps.items()}
    seeds = _by_seed(rows, metric)

    def around(tests: bool) -> dict[str, Ends]:
        every = {s: _intervals(by_site.loc[[s]], spread, seeds, other, chance, tests) for s in sites}
        ends = _intervals(by_site, spread, seeds, other, chance, tests)
        of_gap = _intervals(own_networks, spread, seeds, other, chance, tests)
        ends |= {"gap_closed": of_gap.get("gap_closed")}
        ends |= {"gap_closed_poorest": every.get(str(poorest), {}).get("gap_closed")}
        ends |= {f"{name}@{s}": of for s, those in every.items() for name, of in those.items()}
        return {k: ends.get(k) if math.isfinite(v) else None for k, v in values.items() if k != "augmented"}

    beyond = over_public(by_site, spread, seeds, _missing(by_site, unknown, ["synthetic", "public"]))
    return (
        {k: finite_or_none(v) for k, v in found.items()}
        | beyond
        | {
            "intervals": around(tests=True),
            "seed_intervals": around(tests=False),
            "seeds": len({r["seed"] for r in rows}),
            "chance": finite_or_none(chance.mean()),
            "retained_by_site": {s: finite_or_none(v) for s, v in kept.items()},
            "gap_closed_by_site": {s: finite_or_none(v) for s, v in gaps.items()},
            "poorest_site": poorest,
            "headline": metric,
            "against": other,
            "why": {k: reason for k, reason in why.items() if finite_or_none(values[k]) is None},
        }
    )


def _by_seed(rows: Rows, metric: str) -> pd.DataFrame:
    """Return a metric with a line for each (site, seed) and a column for each name of a row."""
    flat = [(r["site"], r["seed"], r["name"], r["metrics"].get(metric)) for r in rows
            if r["name"] not in ("local", "augmented") or r["trained_on"] == r["site"]]  # fmt: skip
    long = pd.DataFrame(flat, columns=["site", "seed", "name", "value"]).astype({"value": float})
    return long.pivot_table(index=["site", "seed"], columns="name", values="value", aggfunc="first")


def _intervals(by_site: pd.DataFrame, spread: dict[str, Any], seeds: pd.DataFrame, other: str, chance: pd.Series,
               tests: bool) -> dict[str, Ends]:  # fmt: skip
    """Return the intervals of what these sites' rows say; {} if the value or the covariance of a site is missing."""
    values = by_site[[n for n in NAMES if by_site[n].notna().all()]]
    of_sites = seeds[seeds.index.get_level_values("site").isin(by_site.index)]
    draws = intervals.drawn(values, spread, of_sites.groupby(level="seed").mean(), tests)
    if draws is None:
        return {}
    found: dict[str, Ends] = {}
    if "synthetic" in draws:
        found["synthetic"] = intervals.ends(draws["synthetic"].to_numpy())
    if {"synthetic", other} <= set(draws):
        found["retained"] = intervals.ends(intervals.retained(draws, other, chance[by_site.index].mean()))
    if {"local", other, "augmented"} <= set(draws):
        found["gap_closed"] = intervals.ends(intervals.gaps(draws, other))
    return found


def _why(by_site: pd.DataFrame, unknown: pd.DataFrame, kind: str, other: str, chance: pd.Series) -> str:
    """Return why `kind` has no retained or gap closed: missing values by site, a reference at chance, or no gap."""
    if not len(by_site):
        return NO_SITE
    if missing := _missing(
        by_site, unknown, [other, "synthetic"] if kind == "synthetic" else ["local", other, "augmented"]
    ):
        return missing
    mean, at = by_site.mean(), f" at {by_site.index[0]}" if len(by_site) == 1 else ""
    guess = chance[by_site.index].mean()
    if kind == "synthetic" or at_chance(mean[other], guess):
        return f"{AT_CHANCE}: {other} {mean[other]:.3f} is not {SMALLEST_GAP} above {guess:.3f}, which is chance{at}"
    return f"{NO_GAP}: {other} {mean[other]:.3f} is not {SMALLEST_GAP} above local {mean['local']:.3f}{at}"


def _missing(by_site: pd.DataFrame, unknown: pd.DataFrame, needed: list[str]) -> str:
    """Describe missing values: "no local at south (withheld: < 5 test images), no augmented at north, south"."""
    absent = {name: [site for site in by_site.index if not math.isfinite(by_site.at[site, name])] for name in needed}
    said = {
        name: [f"{s} ({why})" if (why := unknown.at[s, name]) else str(s) for s in sites]
        for name, sites in absent.items()
        if sites
    }
    return ", ".join(f"no {name} at {', '.join(sites)}" for name, sites in said.items())
