"""What a synthetic set is worth beyond public images: synthetic − public, with its interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.worth.ratios import finite_or_none

if TYPE_CHECKING:
    import pandas as pd

Z = 1.959964  # quantile of the normal distribution for a 95 % interval
NO_PUBLIC = "no public: params.yaml names no score.public"


def over_public(by_site: pd.DataFrame, spread: dict[str, Any], why: str) -> dict[str, Any]:
    """Return `over_public` (the mean over the sites), its `over_public_interval`, `over_public_by_site` and why it is
    missing.

    `by_site`: a row for each site, a column for each kind of network; `spread`: site -> covariance of the kinds'
    metrics over other test images; `why`: what is missing, "" if nothing is. The sites' test images are independent of
    each other.
    """
    apart = by_site["synthetic"] - by_site["public"]
    mean = finite_or_none(apart.mean(skipna=False)) if len(apart) else None
    variances = [_variance(spread.get(str(site))) for site in by_site.index]
    interval = None
    if mean is not None and all(map(math.isfinite, variances)):
        around = Z * math.sqrt(sum(variances)) / len(variances)
        interval = [finite_or_none(mean - around), finite_or_none(mean + around)]
    return {
        "public": finite_or_none(by_site["public"].mean(skipna=False)),
        "over_public": mean,
        "over_public_interval": interval,
        "over_public_by_site": {str(site): finite_or_none(value) for site, value in apart.items()},
        "over_public_why": "" if mean is not None else why if by_site["public"].notna().any() else NO_PUBLIC,
    }


def _variance(of: dict[str, Any] | None) -> float:
    """The variance of synthetic − public at one site; NaN where the site has not sent it."""
    if of is None or of["covariance"] is None or not {"synthetic", "public"} <= set(of["names"]):
        return math.nan
    signs = np.array([(name == "synthetic") - (name == "public") for name in of["names"]], float)
    return max(0.0, float(signs @ np.array(of["covariance"]) @ signs))
