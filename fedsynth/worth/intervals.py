"""Confidence intervals of scores and shares: from the covariance of each site's metrics, and from the uses' seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fedsynth.worth.ratios import finite_or_none

DRAWS = 4000  # draws of each site's metrics
Ends = list[float | None] | None


def drawn(values: pd.DataFrame, spread: dict[str, Any], seeds: pd.DataFrame, tests: bool = True) -> pd.DataFrame | None:
    """Return draws (DRAWS, rows) of the rows' means over sites; None if a value or a covariance is missing.

    `values`: a line for each site, a column for each row of the table, all known. `seeds`: a line for each seed, with
    the rows' means over the same sites. `tests`: whether the test images vary, or the seeds alone.

    Each site sends the covariance of its rows' metrics over its test subjects, and test images differ between sites: so
    each site's rows are drawn independently (see `moved`). The seeds of a row's networks add draws of their own (see
    `of_seeds`); rows are trained independently of each other.
    """
    names = list(values.columns)
    rng = np.random.default_rng(0)
    found = []
    for site, row in values.iterrows():
        of = spread.get(str(site)) or {}
        if of.get("covariance") is None or not set(names) <= set(of["names"]):
            return None
        places = [of["names"].index(n) for n in names]
        covariance = np.array(of["covariance"])[np.ix_(places, places)]
        noise = rng.multivariate_normal(np.zeros(len(names)), covariance, DRAWS, check_valid="ignore")
        found.append(moved(row.to_numpy(float), noise * tests))
    if not found or not names:
        return None
    return pd.DataFrame(np.mean(found, 0) + of_seeds(seeds[names].to_numpy(float), rng), columns=names)


def moved(values: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return draws (DRAWS, rows) around metrics (rows,).

    A share between 0 and 1 moves on the logit scale, where its distribution is nearer to a normal one and no draw
    leaves its range (delta method); any other number moves as it is.
    """
    inside = (values > 0) & (values < 1)
    share = np.where(inside, values, 0.5)
    logits = np.log(share / (1 - share)) + noise / (share * (1 - share))
    return np.where(inside, 1 / (1 + np.exp(-logits)), values + noise)


def of_seeds(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return draws (DRAWS, rows) of how far the rows' means over the seeds are off; 0 with one seed.

    `scores` (seeds, rows). Two or three seeds say little of a variance, so that a row's is the mean of its own and of
    all rows' (moderated as by Smyth 2004, doi:10.2202/1544-6115.1027, with as many prior degrees of freedom as the row
    has), and its draws have Student's t distribution with the degrees of freedom of both.
    """
    n = len(scores)
    if n < 2 or not np.isfinite(scores).all():
        return np.zeros((DRAWS, scores.shape[1]))
    own = scores.var(0, ddof=1)
    return np.sqrt((own + own.mean()) / 2 / n) * rng.standard_t(2 * (n - 1), (DRAWS, scores.shape[1]))


def retained(draws: pd.DataFrame, other: str, chance: float) -> np.ndarray:
    """Return the share of what lies above chance that the synthetic images retain, in each draw."""
    return _ratio((draws["synthetic"] - chance).to_numpy(), (draws[other] - chance).to_numpy())


def gaps(draws: pd.DataFrame, other: str) -> np.ndarray:
    """Return the gap closed in each draw."""
    return _ratio((draws["augmented"] - draws["local"]).to_numpy(), (draws[other] - draws["local"]).to_numpy())


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Infinite, with the sign of the part, where there is no whole: the interval is then unbounded on that side, as
    Fieller's (1954) interval is for a ratio whose denominator may be 0."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.where(part < 0, -math.inf, math.inf))


def ends(draws: Sequence[float] | np.ndarray) -> Ends:
    """Return the 95 % interval [low, high] of draws; an end that is None has no bound."""
    low, high = np.quantile(draws, [0.025, 0.975], method="nearest")
    return [finite_or_none(low), finite_or_none(high)]
