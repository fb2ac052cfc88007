"""The texture distance is the Wasserstein distance of projected patches, in units of the real ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from fedsynth.measures._fine import pyramid
from fedsynth.measures.texture import BINS, ENDS, counted, directions, distance, projected

RNG = np.random.default_rng(0)
SIZES = pytest.mark.parametrize("size", [(16, 16), (12, 12, 12)], ids=["2d", "3d"])


def counts(*sets: np.ndarray) -> list[np.ndarray]:
    """One level, as (N, 1, I, D, BINS)."""
    return [of[:, None] for of in counted(np.random.default_rng(1), *sets)]


@SIZES
def test_a_set_is_at_no_distance_of_itself_and_finer_things_are_far(size: tuple[int, ...]) -> None:
    images = RNG.normal(0, 0.2, (12, 2, *size))
    same, other, flat = counts(images, RNG.normal(0, 0.2, images.shape), 0.5 * images)
    assert distance(same, same) == 0
    assert distance(same, other) < 0.1
    assert distance(same, flat) > 0.3, "half of the contrast is another texture"


def test_it_is_scipys_distance_of_the_projections_up_to_the_bins() -> None:
    real, made = RNG.normal(0, 0.2, (6, 1, 12, 12)), RNG.laplace(0, 0.1, (5, 1, 12, 12))
    weights = directions(np.random.default_rng(1), 7, 2)
    values = [np.stack([projected(image, weights)[0] for image in images]) for images in (real, made)]
    unit = np.sqrt(np.square(values[0]).mean())
    pairs = [[(of[:, d] / unit).ravel() for of in values] for d in range(len(weights))]
    expected = np.mean([wasserstein_distance(a, b) for a, b in pairs])
    assert distance(*counts(real, made)) == pytest.approx(expected, abs=2 * ENDS / BINS / 4)


def test_a_channel_that_images_lack_or_that_is_constant_does_not_count() -> None:
    images = RNG.normal(0, 0.2, (10, 2, 16, 16))
    lacking, flat = images.copy(), images.copy()
    lacking[5:, 1], flat[:, 1] = np.nan, -1.0
    whole, some = counts(images, lacking)
    assert distance(whole, some) < 0.1
    one, two = counts(*(pyramid(of, 1)[0] for of in (flat, images * [[[[1.0]], [[9.0]]]])))
    assert distance(one, two) == 0, "there is nothing real to hold the second channel against"


@SIZES
def test_the_pyramid_takes_apart_and_each_part_lies_higher_than_the_next(size: tuple[int, ...]) -> None:
    smooth = np.broadcast_to(np.linspace(-1, 1, size[-1]), (2, 1, *size))
    fine, coarse = pyramid(smooth, 2)
    assert fine.shape[2:] == size
    assert coarse.shape[2:] == tuple(n // 2 for n in size)
    checks = np.broadcast_to(np.indices(size).sum(0) % 2 * 2.0 - 1, (2, 1, *size))
    assert np.abs(pyramid(checks, 1)[0]).mean() > 10 * np.abs(fine).mean()
    assert len(pyramid(smooth, 9)) < 5, "an image has no more levels than its size allows"


def test_no_image_has_no_distance() -> None:
    none, some = counts(RNG.normal(size=(0, 1, 8, 8)), RNG.normal(size=(3, 1, 8, 8)))
    assert np.isnan(distance(none, some))
