"""The geometric median: known solutions, and that no other point has a smaller sum of distances."""

import numpy as np
import pytest

from fedsynth.robust.geometric_median import GeometricMedian


def of(*points) -> list[tuple]:
    return [(f"site{i}", 1.0, {"x": np.float32([p[0]]), "y": np.float32([p[1]])}) for i, p in enumerate(points)]


def found(*points) -> np.ndarray:
    change, _ = GeometricMedian().combine(of(*points))
    return np.array([change["x"][0], change["y"][0]])


def test_of_a_square_it_is_the_centre_and_of_an_equilateral_triangle_fermats_point():
    np.testing.assert_allclose(found((0, 0), (2, 0), (2, 2), (0, 2)), [1, 1], atol=1e-4)
    np.testing.assert_allclose(found((0, 0), (1, 0), (0.5, np.sqrt(0.75))), [0.5, np.sqrt(0.75) / 3], atol=1e-4)


def test_of_a_triangle_with_an_angle_of_more_than_120_degrees_it_is_that_corner():
    np.testing.assert_allclose(found((-10, 1), (0, 0), (10, 1)), [0, 0], atol=1e-3)


def test_of_points_on_a_line_it_is_the_median():
    np.testing.assert_allclose(found((0, 0), (1, 0), (2, 0), (50, 0), (1000, 0)), [2, 0], atol=1e-2)


@pytest.mark.parametrize("seed", range(10))
def test_no_point_near_it_has_a_smaller_sum_of_distances(seed):
    rng = np.random.default_rng(seed)
    points = rng.standard_t(2, size=(6, 2))
    best = found(*points)

    def cost(v: np.ndarray) -> float:
        return float(np.linalg.norm(points - v, axis=1).sum())

    assert all(cost(best) <= cost(best + 0.02 * rng.normal(size=2)) + 1e-5 for _ in range(50))


@pytest.mark.parametrize("far", [1e3, 1e9, 1.8e19])
def test_however_far_one_of_five_is_the_others_decide(far):
    near = [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert np.abs(found(*near, (far, far)) - 0.5).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("args", [{"smoothing": 0}, {"smoothing": 1}, {"steps": 0}])
def test_settings_that_make_no_sense_are_refused(args):
    with pytest.raises(ValueError, match=next(iter(args))):
        GeometricMedian(**args)
