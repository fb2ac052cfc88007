"""synthetic − public is a difference of means over the sites, with an interval from both rows' covariance."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from fedsynth.worth import over_public as module
from fedsynth.worth.over_public import NO_PUBLIC


def over_public(by_site: pd.DataFrame, spread: dict, why: str) -> dict:
    """With one seed of each use."""
    return module.over_public(by_site, spread, pd.concat({1: by_site}, names=["seed", "site"]).swaplevel(), why)


def table(**columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame(columns, index=["north", "east"])


def sent(covariance: list[list[float]]) -> dict:
    return {site: {"names": ["public", "synthetic"], "covariance": covariance} for site in ("north", "east")}


def test_it_is_the_mean_difference_and_its_interval_that_of_independent_sites() -> None:
    found = over_public(table(synthetic=[0.8, 0.7], public=[0.5, 0.6]), sent([[0.0002, 0.0001], [0.0001, 0.0003]]), "")
    assert found["over_public"] == pytest.approx(0.2)
    assert found["over_public_by_site"] == {"north": pytest.approx(0.3), "east": pytest.approx(0.1)}
    around = 1.96 * math.sqrt(2 * (0.0002 + 0.0003 - 2 * 0.0001)) / 2
    assert found["over_public_interval"] == pytest.approx([0.2 - around, 0.2 + around], abs=2e-3)


def test_the_interval_covers_what_it_says() -> None:
    rng, covariance, hits = np.random.default_rng(0), np.array([[0.01, 0.004], [0.004, 0.02]]), 0
    for _ in range(400):
        drawn = rng.multivariate_normal([0.5, 0.6], covariance, 2)
        low, high = over_public(table(public=list(drawn[:, 0]), synthetic=list(drawn[:, 1])),
                                sent(covariance.tolist()), "")["over_public_interval"]  # fmt: skip
        hits += low <= 0.1 <= high
    assert 0.92 <= hits / 400 <= 0.98


def test_without_public_images_or_with_a_silent_site_it_is_missing_and_says_why() -> None:
    none = over_public(table(synthetic=[0.8, 0.7], public=[np.nan, np.nan]), {}, "no public at north, east")
    assert (none["over_public"], none["over_public_why"]) == (None, NO_PUBLIC)
    part = over_public(table(synthetic=[0.8, np.nan], public=[0.5, 0.5]), {}, "no synthetic at east")
    assert (part["over_public"], part["over_public_why"]) == (None, "no synthetic at east")
    assert over_public(table(synthetic=[0.8, 0.8], public=[0.5, 0.5]), {}, "")["over_public_interval"] is None
