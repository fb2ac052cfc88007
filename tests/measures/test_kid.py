"""KID is unbiased: about 0 between samples of one distribution, whatever their numbers, and torchmetrics' where those are equal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from fedsynth.measures.kid import kid


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
