"""Norm clipping: known norms, and the weights that bound it."""

import numpy as np
import pytest

from fedsynth.algorithms.fedavg import weighted_mean
from fedsynth.robust.median_clip import MedianClip


def updates(*norms: float, weights: tuple[float, ...] = (1, 1, 1, 1, 1)) -> list[tuple]:
    return [
        (f"site{i}", float(w), {"w": np.float32([n, 0])}) for i, (n, w) in enumerate(zip(norms, weights, strict=False))
    ]


def test_an_update_is_scaled_down_to_the_median_norm_and_a_smaller_one_is_left_alone():
    change, said = MedianClip().combine(updates(1, 2, 3, 4, 300))
    np.testing.assert_allclose(change["w"], [(1 + 2 + 3 + 3 + 3) / 5, 0], rtol=1e-6)
    assert said == {"site4": "the norm of its update is 100 times the median, and was scaled down to 1 times"}


def test_with_a_bound_that_nothing_reaches_it_is_the_weighted_mean():
    of = updates(1, 2, 3, weights=(1, 2, 3))
    np.testing.assert_allclose(MedianClip(bound=100).combine(of)[0]["w"], weighted_mean(of)["w"], rtol=1e-6)


def test_a_bound_of_two_medians_scales_to_them():
    np.testing.assert_allclose(MedianClip(bound=2).combine(updates(1, 1, 1, 1, 50))[0]["w"][0], (4 + 2) / 5, rtol=1e-6)


def test_a_weight_counts_as_three_times_the_median_at_most():
    change, said = MedianClip().combine(updates(0, 0, 0, 0, 0, weights=(1, 1, 1, 1, 1000)))
    assert not change["w"].any()
    assert said == {"site4": "its weight is 1e+03 times the median, and counts as 3 times"}
    heavy = MedianClip(bound=9).combine(updates(1, 1, 1, 1, 2, weights=(1, 1, 1, 1, 1000)))[0]
    np.testing.assert_allclose(heavy["w"][0], (4 + 3 * 2) / 7, rtol=1e-6)


def test_the_norm_is_of_all_arrays_together():
    of = [("a", 1.0, {"w": np.float32([3]), "v": np.float32([4])})] * 2
    large = [("b", 1.0, {"w": np.float32([30]), "v": np.float32([40])})]
    change, _ = MedianClip().combine([*of, *large])
    np.testing.assert_allclose([change["w"][0], change["v"][0]], [3, 4], rtol=1e-6)


@pytest.mark.parametrize("args", [{"bound": 0}, {"bound": -1}, {"weight": 0.5}])
def test_a_bound_that_makes_no_sense_is_refused(args):
    with pytest.raises(ValueError, match=next(iter(args))):
        MedianClip(**args)
