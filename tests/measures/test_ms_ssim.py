"""MS-SSIM of pairs rises where a model makes the same image again and again, and its pairs are what they are said to
be.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedsynth.data.dataset import ImageSet
from fedsynth.measures import MeasureInputs
from fedsynth.measures.ms_ssim import MSSSIM, WANG, pairs, scales, similarity
from tests.measures.seen import look
from tests.sets import tiny_params

SIZES = [(16, 16), (8, 8, 8), (4, 20, 20), (32, 32)]


@pytest.fixture
def seen(tmp_path: Path) -> MeasureInputs:
    return look(tmp_path, tiny_params(), 60, 60)


def other(seen: MeasureInputs, images: np.ndarray) -> MeasureInputs:
    made = ImageSet(seen.synthetic.manifest, images)
    return MeasureInputs(seen.image, made, seen.extractor, seen.networks, seen.held_out, seen.train, seed=1)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_an_image_is_like_itself_and_unlike_noise_at_any_size(size: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    one, noise = (rng.uniform(-1, 1, (70, 2, *size)).astype(np.float32) for _ in range(2))
    np.testing.assert_allclose(similarity(one, one), np.ones(70), atol=1e-5)
    assert similarity(one, noise).max() < 0.7
    np.testing.assert_allclose(similarity(one, noise), similarity(noise, one), atol=1e-6)


def test_larger_images_are_seen_at_more_scales() -> None:
    assert [len(scales((n, n))[1]) for n in (8, 16, 32, 64, 128, 256)] == [1, 2, 3, 4, 5, 5]
    assert scales((128, 128)) == (7, pytest.approx([w / sum(WANG) for w in WANG]))
    assert all(sum(scales((n, n))[1]) == pytest.approx(1) for n in (4, 31, 100))


def test_one_image_again_and_again_is_1_and_samples_that_are_drawn_alike_are_near_the_floor(
    seen: MeasureInputs,
) -> None:
    labels = seen.synthetic.labels(seen.image)
    first = {k: seen.synthetic.images[labels == k][0] for k in np.unique(labels)}
    collapsed = other(seen, np.stack([first[k] for k in labels]))
    good, bad = (MSSSIM().at_site(s).values["ms_ssim"] for s in (seen, collapsed))
    assert bad.value == pytest.approx(1, abs=1e-4)
    assert good.floor == bad.floor
    assert abs(good.value - good.floor) < 0.1 < bad.value - bad.floor  # type: ignore[operator]
    assert good.low < good.value < good.high  # type: ignore[operator]


def test_noise_is_less_alike_than_real_images(seen: MeasureInputs) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, seen.synthetic.images.shape).astype(np.float32)
    found = MSSSIM().at_site(other(seen, noise)).values["ms_ssim"]
    assert found.value < found.floor  # type: ignore[operator]


def test_only_images_of_one_class_are_compared(seen: MeasureInputs) -> None:
    labels = seen.synthetic.labels(seen.image)
    bright = np.broadcast_to((labels - 1.0).reshape(-1, 1, 1, 1), seen.synthetic.images.shape).astype(np.float32)
    assert MSSSIM().at_site(other(seen, np.ascontiguousarray(bright))).values["ms_ssim"].value == pytest.approx(
        1, abs=1e-4
    )


def test_its_value_does_not_depend_on_the_site(tmp_path: Path) -> None:
    north, east = (
        MSSSIM().at_site(look(tmp_path, tiny_params(), 60, 60, site=site)).values["ms_ssim"]
        for site in ("north", "east")
    )
    assert (north.value, north.low, north.high) == (east.value, east.low, east.high)
    assert north.floor != east.floor


def test_in_a_matching_no_image_is_in_two_pairs_and_no_pair_is_twice_in_several() -> None:
    rng = np.random.default_rng(0)
    places = np.arange(10, 21)
    one = pairs(places, rng, 1)
    assert one.shape == (5, 2)
    assert len(np.unique(one)) == 10
    many = pairs(places, rng, 50)
    assert len(np.unique(many, axis=0)) == len(many) <= 55
    assert (many[:, 0] < many[:, 1]).all()
    assert pairs(places[:1], rng, 3).shape == (0, 2)


def test_a_class_that_the_site_has_no_pair_of_leaves_no_floor(seen: MeasureInputs) -> None:
    train = seen.train.where(seen.train.labels(seen.image) != 1)  # type: ignore[union-attr]
    found = (
        MSSSIM()
        .at_site(MeasureInputs(seen.image, seen.synthetic, seen.extractor, {}, seen.held_out, train, seed=1))
        .values["ms_ssim"]
    )
    assert found.value is not None
    assert found.floor is None
    assert found.n == {"real": len(train), "synthetic": 60}
