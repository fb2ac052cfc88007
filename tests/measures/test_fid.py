"""FID is 0 of a set to itself, the squared shift of equal clouds, and of all sites' moments what it is of their
features in one place.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedsynth.measures import Answer, MeasureInputs, Moments, Value
from fedsynth.measures.fid import CLIP, FID, Ball, fid, frechet, noisy, pool, pooled_fid
from tests.measures.seen import centre, look
from tests.sets import make_set, tiny_params


def cloud(n: int, features: int = 6, seed: int = 0) -> np.ndarray:
    """Correlated, off the origin."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, features)) @ rng.normal(size=(features, features)) + 5


def test_a_set_to_itself_is_zero() -> None:
    points = cloud(40)
    assert fid(points, points) == pytest.approx(0, abs=1e-9)
    assert fid(points, points[::-1]) == pytest.approx(0, abs=1e-9)


def test_a_shift_is_its_square_where_the_covariances_are_equal() -> None:
    points, shift = cloud(40), np.array([3.0, 0, 0, 4.0, 0, 0])
    assert fid(points, points + shift) == pytest.approx(25)


def test_a_scale_of_one_feature_is_the_squared_difference_of_its_deviations() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(50, 1))
    assert fid(points, 3 * points) == pytest.approx((2 * points.mean()) ** 2 + (2 * points.std(ddof=1)) ** 2)


def test_a_feature_that_never_changes_does_not_matter() -> None:
    a, b = cloud(40), cloud(50, seed=1)
    dead = [np.column_stack([x, np.full(len(x), 2.0)]) for x in (a, b)]
    assert fid(*dead) == pytest.approx(fid(a, b), abs=1e-6)


def test_one_image_has_no_fid() -> None:
    assert np.isnan(fid(cloud(1), cloud(40)))
    assert np.isnan(fid(cloud(40), cloud(1)))


@pytest.mark.parametrize("sizes", [(40, 9, 25), (6, 6), (50,)])
def test_moments_of_sites_give_mean_and_covariance_of_all_images_in_one_place(sizes: tuple[int, ...]) -> None:
    parts = [cloud(n, seed=i) + 10 * i for i, n in enumerate(sizes)]
    whole, pooled = np.concatenate(parts), pool([Moments.of(p) for p in parts])
    assert pooled.n == len(whole)
    np.testing.assert_allclose(pooled.mean, whole.mean(0), rtol=1e-12)
    np.testing.assert_allclose(pooled.covariance, np.cov(whole, rowvar=False), rtol=1e-9, atol=1e-9)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, MeasureInputs]:
    folder, params = tmp_path_factory.mktemp("sets"), tiny_params()
    return {name: look(folder, params, n, 90, site=name) for name, n in (("north", 90), ("east", 60))}


def test_pooled_fid_is_that_of_all_features_in_one_place(sites: dict[str, MeasureInputs]) -> None:
    north = sites["north"]
    combined = FID().combine({name: FID().at_site(seen) for name, seen in sites.items()}, centre(north))
    held_out, train = (
        np.concatenate([seen.features(which) for seen in sites.values()])  # type: ignore[arg-type]
        for which in ("held_out", "train")
    )
    found = combined["pooled_fid"]
    assert found.value == pytest.approx(fid(held_out, north.features("synthetic")), abs=1e-6)
    assert found.floor == pytest.approx(fid(held_out, train), abs=1e-6)
    assert found.n == {"real": len(held_out), "train": len(train), "synthetic": 90}
    assert found.low is not None
    assert found.low < found.value < found.high  # type: ignore[operator]


def test_the_interval_of_pooled_fid_holds_the_chance_of_the_real_images_too(sites: dict[str, MeasureInputs]) -> None:
    """As wide as those of other real and other synthetic images: features of one normal distribution and a
    shifted one.
    """
    rng, north = np.random.default_rng(0), centre(sites["north"])
    n = {"real": 60, "train": 0, "synthetic": 200}

    def one() -> Value:
        north._features["synthetic"] = rng.normal([1, 0, 0], 1, (200, 3))
        answers = [
            Answer({"pooled_fid": Value(None, n)}, {"held_out": Moments.of(rng.normal(size=(30, 3)), np.arange(30))})
            for _ in range(2)
        ]
        return pooled_fid(answers, north)

    found = [one() for _ in range(60)]
    expected = np.mean([f.value for f in found])  # type: ignore[misc]
    assert np.mean([f.low <= expected <= f.high for f in found]) >= 0.88  # type: ignore[operator]
    width = np.mean([f.high - f.low for f in found])  # type: ignore[operator]
    assert width == pytest.approx(2 * 1.96 * np.std([f.value for f in found]), rel=0.3)  # type: ignore[misc]


def test_images_of_one_patient_are_not_independent() -> None:
    rng = np.random.default_rng(0)
    own = rng.normal(size=(40, 4))
    ten = np.repeat(np.arange(40), 10)
    same, apart = (Moments.of(own[ten] + noise * rng.normal(size=(400, 4)), ten).independent for noise in (0.0, 100.0))
    assert same == pytest.approx(40, abs=2)
    assert apart > 300  # type: ignore[operator]
    assert Moments.of(own, np.arange(40)).independent in (39, 40)
    assert Moments.of(own).independent is None


def test_without_the_number_of_independent_images_pooled_fid_has_no_interval(sites: dict[str, MeasureInputs]) -> None:
    north = centre(sites["north"])
    answers = {"north": FID().at_site(sites["north"])}
    assert answers["north"].moments["held_out"].independent is not None
    assert FID().combine(answers, north)["pooled_fid"].low is not None
    untold = {k: replace(m, independent=None) for k, m in answers["north"].moments.items()}
    found = FID().combine({"north": replace(answers["north"], moments=untold)}, north)["pooled_fid"]
    assert (found.value is not None, found.low) == (True, None)


def test_dist_fid_is_the_mean_of_the_sites_by_their_real_images(sites: dict[str, MeasureInputs]) -> None:
    answers = {name: FID().at_site(seen) for name, seen in sites.items()}
    n = {name: a.values["fid"].n["real"] for name, a in answers.items()}
    weighted = [n[name] * a.values["fid"].value for name, a in answers.items()]  # type: ignore[operator]
    expected = sum(weighted) / sum(n.values())
    assert FID().combine(answers, centre(sites["north"]))["fid"].value == pytest.approx(expected)


def test_a_site_gives_mean_and_covariance_and_nothing_of_a_single_image(sites: dict[str, MeasureInputs]) -> None:
    seen = sites["east"]
    answer = FID().at_site(seen)
    assert answer.moments.keys() == {"held_out", "train"}
    np.testing.assert_allclose(answer.moments["held_out"].mean, seen.features("held_out").mean(0))
    assert answer.moments["held_out"].covariance.shape == (8, 8)


def test_fewer_images_than_features_give_no_moments_and_none_at_the_site_and_for_all(
    sites: dict[str, MeasureInputs],
) -> None:
    north, east = sites["north"], sites["east"]
    few = east.held_out.where(np.arange(len(east.held_out)) < 7)  # type: ignore[union-attr, arg-type]
    small = MeasureInputs(east.image, east.synthetic, east.extractor, east.networks, few, east.train, seed=1)
    answer = FID().at_site(small)
    assert "held_out" not in answer.moments
    assert answer.values["fid"].value is None
    assert answer.values["fid"].n["real"] == 7
    combined = FID().combine({"north": FID().at_site(north), "east": answer}, centre(north))
    assert combined["fid"].value is None
    assert combined["pooled_fid"].value is None


def test_noise_is_farther_than_images_that_are_drawn_alike(sites: dict[str, MeasureInputs], tmp_path: Path) -> None:
    north = sites["north"]
    noise = make_set(tmp_path, tiny_params(), "synthetic", 90)
    noise.images[:] = np.random.default_rng(0).uniform(-1, 1, noise.images.shape)
    bad = MeasureInputs(north.image, noise, north.extractor, north.networks, north.held_out, north.train, seed=1)
    near, far = (FID().at_site(seen).values["fid"] for seen in (north, bad))
    assert near.floor == far.floor
    assert near.value < 3 * near.floor < far.value  # type: ignore[operator]


def test_it_is_torchmetrics_number_in_double_precision() -> None:
    import torch
    from torchmetrics.image.fid import _compute_fid

    a, b = Moments.of(cloud(40)), Moments.of(cloud(50, seed=1))
    assert frechet(a, b) == pytest.approx(
        float(_compute_fid(*map(torch.from_numpy, (a.mean, a.covariance, b.mean, b.covariance))))
    )


def test_one_image_moves_the_moments_that_leave_by_no_more_than_its_share():
    """A network that a centre crafts may give one image huge features."""
    rng = np.random.default_rng(0)
    real, ball = rng.normal(size=(50, 4)), Ball.around(rng.normal(size=(200, 4)))
    assert np.array_equal(ball.clip(real[:0]), real[:0])
    np.testing.assert_allclose(ball.clip(real), real)  # of honest features none is changed
    other = real.copy()
    other[0] = 1e6
    one, two = (Moments.of(ball.clip(of)) for of in (real, other))
    assert np.linalg.norm(one.mean - two.mean) <= 2 * ball.radius / 50
    assert np.linalg.norm(one.covariance - two.covariance) <= 4 * ball.radius**2 / 49
    assert ball.radius == pytest.approx(CLIP * 2, rel=0.1)


def test_where_synthetic_features_are_all_alike_nothing_of_the_real_ones_leaves():
    ball = Ball.around(np.ones((30, 3)))
    assert np.abs(ball.clip(np.random.default_rng(0).normal(size=(40, 3))) - 1).max() < 1e-9


def test_noise_is_as_large_as_it_is_asked_for_and_a_covariance_stays_one():
    moments = Moments.of(np.random.default_rng(0).normal(size=(100, 3)))
    assert noisy(moments, 5.0, 0.0) is moments
    drawn = [noisy(moments, 5.0, 2.0) for _ in range(400)]
    moved = np.array([of.mean - moments.mean for of in drawn])
    assert moved.std() == pytest.approx(2 * 2 * 5 / 100, rel=0.1)
    assert all(np.linalg.eigvalsh(of.covariance).min() >= -1e-9 for of in drawn)
    assert all(np.allclose(of.covariance, of.covariance.T) for of in drawn)
