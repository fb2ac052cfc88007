"""KID is unbiased: about 0 between samples of one distribution, whatever their numbers, and torchmetrics' where those
are equal.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from fedsynth.measures.kid import by_class, kid


def cloud(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 4)) + shift


def test_it_is_torchmetrics_number_where_both_sets_have_as_many_images() -> None:
    a, b = cloud(30, 0), cloud(30, 1, 0.5)
    assert kid(a, b) == pytest.approx(float(poly_mmd(torch.from_numpy(a), torch.from_numpy(b))))


@pytest.mark.parametrize("sizes", [(20, 20), (10, 60)])
def test_samples_of_one_distribution_are_zero_on_average(sizes: tuple[int, int]) -> None:
    found = np.array([kid(cloud(sizes[0], 2 * i), cloud(sizes[1], 2 * i + 1)) for i in range(400)])
    assert abs(found.mean()) < 4 * found.std() / 20
    assert (found < 0).any()


def test_it_grows_with_the_distance() -> None:
    a, b = cloud(200, 0), cloud(100, 1)
    near, middle, far = (kid(a, b + shift) for shift in (0.0, 0.5, 1.0))
    assert near < middle / 5 < far / 5
    assert kid(a, b + 1) == pytest.approx(kid(b + 1, a))


def test_one_image_has_none() -> None:
    assert np.isnan(kid(cloud(1, 0), cloud(30, 1)))
    assert np.isnan(kid(cloud(30, 0), cloud(1, 1)))


def labelled(sizes: tuple[int, ...], seed: int) -> np.ndarray:
    """Two classes far from each other."""
    return np.vstack([np.column_stack([np.full(n, k), cloud(n, 2 * seed + k, 5.0 * k)]) for k, n in enumerate(sizes)])


def test_classes_in_the_same_shares_leave_it_at_zero() -> None:
    pairs = [(labelled((12, 24), 2 * i), labelled((10, 20), 2 * i + 1)) for i in range(200)]
    found = np.array([by_class(a, b) for a, b in pairs])
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(200)
    assert np.mean([kid(a[:, 1:], b[:, 1:]) for a, b in pairs]) < -1, "over all images it would be biased"


def test_a_class_counts_by_its_real_images_and_one_of_a_single_image_not_at_all() -> None:
    a, b = labelled((30, 10), 0), labelled((20, 20), 1)
    each = [kid(a[a[:, 0] == k, 1:], b[b[:, 0] == k, 1:]) for k in (0, 1)]
    assert by_class(a, b) == pytest.approx(0.75 * each[0] + 0.25 * each[1])
    assert by_class(a, b[:21]) == pytest.approx(each[0])
    assert np.isnan(by_class(a[:1], b))
