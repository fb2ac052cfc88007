"""Confidence intervals of retained and gap closed from the covariance of each site's metrics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from fedsynth.worth.ratios import NAMES, finite_or_none

DRAWS = 4000  # draws from the joint normal distribution of each site's metrics


def intervals(by_site: pd.DataFrame, spread: dict[str, Any], found: dict[str, float], poorest: str | None,
              other: str) -> dict[str, Any]:  # fmt: skip
    """Return name -> 95 % interval [low, high]; None if the value or the covariance of a site is missing.

    Each site sends the covariance of its rows' metrics (from a paired bootstrap), and test images differ between sites.
    So each site's rows are drawn independently from a normal distribution, and the measures are computed for each draw.
    In a draw without a gap, the gap closed is infinite, with the sign of augmented - local, so that the interval is
    unbounded on that side, as Fieller's (1954) interval is for a ratio whose denominator may be 0.
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
