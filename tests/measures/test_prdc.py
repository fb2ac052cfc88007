"""Precision and density say whether images look real, recall and coverage whether all kinds of them are there."""

from __future__ import annotations

import numpy as np
import pytest

from fedsynth.measures.prdc import prdc, radii

K = 5


def cloud(n: int, seed: int, centre: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3)) + centre


def test_identical_sets_give_one() -> None:
    points = cloud(60, 0)
    assert prdc(points, points, K) == {"precision": 1, "recall": 1, "density": 1, "coverage": 1}


def test_a_far_away_set_gives_zero() -> None:
    assert set(prdc(cloud(60, 0), cloud(60, 1, 100.0), K).values()) == {0.0}


def test_samples_of_one_distribution_have_density_one_and_the_coverage_that_is_expected() -> None:
    found = [prdc(cloud(100, 2 * i), cloud(100, 2 * i + 1), K) for i in range(40)]
    assert np.mean([f["density"] for f in found]) == pytest.approx(1, abs=0.05)
    # Naeem et al. 2020, appendix C: 1 - (N-1)...(N-k) / ((2N-1)...(2N-k))
    expected = 1 - np.prod([(100 - i) / (200 - i) for i in range(1, K + 1)])
    assert np.mean([f["coverage"] for f in found]) == pytest.approx(expected, abs=0.02)


def test_one_outlier_among_the_real_images_spoils_precision_but_not_density() -> None:
    real, fake = cloud(60, 0), cloud(60, 1, 15.0)
    before = prdc(real, fake, K)
    after = prdc(np.vstack([real, [[30.0, 30.0, 30.0]]]), fake, K)
    assert before["precision"] == 0
    assert after["precision"] == 1, "the outlier's ball holds all that is between"
    assert after["density"] <= 1 / K
    assert after["coverage"] < 0.05


def test_a_dropped_mode_lowers_recall_and_coverage_and_not_precision() -> None:
    real = np.vstack([cloud(50, 0), cloud(50, 1, 20.0)])
    both, one = np.vstack([cloud(50, 2), cloud(50, 3, 20.0)]), cloud(100, 4)
    whole, dropped = prdc(real, both, K), prdc(real, one, K)
    assert dropped["precision"] > 0.8
    for name in ("recall", "coverage"):
        assert dropped[name] <= 0.5
        assert whole[name] > 0.8


def test_a_collapsed_set_has_precision_and_no_recall() -> None:
    found = prdc(cloud(60, 0), np.zeros((60, 3)), K)
    assert found["precision"] == 1
    assert found["recall"] == 0


def test_a_ball_reaches_to_the_kth_nearest_other_point() -> None:
    assert radii(np.array([[0.0], [1.0], [3.0], [7.0]]), 2).tolist() == [3.0, 2.0, 3.0, 6.0]


def test_k_images_or_fewer_have_none() -> None:
    assert all(np.isnan(v) for v in prdc(cloud(K, 0), cloud(60, 1), K).values())
    assert all(np.isnan(v) for v in prdc(cloud(60, 0), cloud(K, 1), K).values())
    assert all(np.isfinite(v) for v in prdc(cloud(K + 1, 0), cloud(K + 1, 1), K).values())
