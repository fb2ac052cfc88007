"""What a synthetic set is worth beyond public images: synthetic − public, with its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.worth import intervals
from fedsynth.worth.ratios import finite_or_none

if TYPE_CHECKING:
    import pandas as pd

BOTH = ["synthetic", "public"]
NO_PUBLIC = "no public: params.yaml names no score.public"


def over_public(by_site: pd.DataFrame, spread: dict[str, Any], seeds: pd.DataFrame, why: str) -> dict[str, Any]:
    """Return `over_public` (the mean over the sites), its `over_public_interval`, both by site (`..._by_site`) and why
    it is missing.

    `by_site`: a line for each site, a column for each row of the table; `spread` and `seeds` (a line for each site and
    seed) as in worth.py: the interval is for other test subjects and other seeds. `why`: what is missing, "" if nothing
    is.
    """
    apart = by_site["synthetic"] - by_site["public"]
    mean = finite_or_none(apart.mean(skipna=False)) if len(apart) else None
    return {
        "public": finite_or_none(by_site["public"].mean(skipna=False)),
        "over_public": mean,
        "over_public_interval": None if mean is None else _interval(by_site, spread, seeds),
        "over_public_interval_by_site": {
            str(site): _interval(by_site.loc[[site]], spread, seeds) if np.isfinite(value) else None
            for site, value in apart.items()
        },
        "over_public_by_site": {str(site): finite_or_none(value) for site, value in apart.items()},
        "over_public_why": "" if mean is not None else why if by_site["public"].notna().any() else NO_PUBLIC,
    }


def _interval(by_site: pd.DataFrame, spread: dict[str, Any], seeds: pd.DataFrame) -> intervals.Ends:
    of_sites = seeds[seeds.index.get_level_values("site").isin(by_site.index)]
    draws = intervals.drawn(by_site[BOTH], spread, of_sites.groupby(level="seed").mean())
    return None if draws is None else intervals.ends(draws["synthetic"] - draws["public"])
