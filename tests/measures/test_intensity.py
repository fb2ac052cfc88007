"""The distance of intensities is a shift of the scale in the scale's own units, whatever lies where."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from fedsynth.measures.intensity import BINS, distance, histograms

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size", [(16, 16), (6, 6, 6)], ids=["2d", "3d"])
def test_a_shift_is_found_in_units_of_the_scale(size: tuple[int, ...]) -> None:
    images = RNG.uniform(-0.5, 0.5, (20, 2, *size))
    assert distance(histograms(images), histograms(images)) == 0
    assert distance(histograms(images), histograms(images + 0.25)) == pytest.approx(0.25, abs=2 / BINS)


def test_it_is_scipys_distance_of_the_pixels_up_to_the_bins() -> None:
    a, b = RNG.beta(2, 3, (15, 1, 16, 16)) * 2 - 1, RNG.beta(3, 2, (9, 1, 16, 16)) * 2 - 1
    assert distance(histograms(a), histograms(b)) == pytest.approx(
        wasserstein_distance(a.ravel(), b.ravel()), abs=2 / BINS
    )


def test_it_is_the_mean_over_the_channels_and_does_not_mix_them() -> None:
    dark, bright = np.full((3, 1, 8, 8), -1.0), np.full((3, 1, 8, 8), 1.0)
    one, swapped = np.concatenate([dark, bright], 1), np.concatenate([bright, dark], 1)
    assert distance(histograms(one), histograms(swapped)) == pytest.approx(2, abs=2 / BINS)
    assert distance(histograms(one), histograms(np.concatenate([dark, dark], 1))) == pytest.approx(1, abs=2 / BINS)


def test_every_pixel_counts_once_also_at_the_ends_of_the_scale() -> None:
    images = np.concatenate([np.full((1, 1, 4, 4), -1.0), np.full((1, 1, 4, 4), 1.0)])
    counts = histograms(images)
    assert counts.sum((1, 2)).tolist() == [16, 16]
    assert (counts[0, 0, 0], counts[1, 0, -1]) == (16, 16)


def test_no_image_has_none() -> None:
    none = histograms(np.zeros((0, 1, 8, 8)))
    assert none.shape == (0, 1, BINS)
    assert np.isnan(distance(none, histograms(np.zeros((2, 1, 8, 8)))))
