"""Sites' numbers become one by their real images; intervals narrow with sites only where the sites' own images vary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wasserstein_distance

from fedsynth.data.dataset import ImageSet
from fedsynth.measures import MeasureInputs, Value, Z, mean
from fedsynth.measures._attack import auc
from fedsynth.measures._statistics import (
    DRAWS,
    KEPT,
    around,
    beside_floor,
    bootstrap,
    in_turn,
    interval,
    matched,
    part,
    student,
)
from fedsynth.measures.fid import FID
from fedsynth.measures.intensity import Intensity
from tests.measures.seen import centre, look
from tests.sets import tiny_params

NORTH, EAST = (
    Value(2.0, {"real": 30, "synthetic": 50}, 1.0, 1.0, 3.0),
    Value(4.0, {"real": 10, "synthetic": 60}, 3.0, 3.0, 5.0),
)


def test_the_mean_is_by_real_images() -> None:
    found = mean({"north": NORTH, "east": EAST})
    assert (found.value, found.floor) == (2.5, 1.5)
    assert found.n == {"real": 40, "synthetic": 60}, "all sites see the same synthetic images"


def test_independent_sites_narrow_the_interval_and_a_shared_set_does_not() -> None:
    own, shared = (mean({"north": NORTH, "east": EAST}, independent) for independent in (True, False))
    assert (shared.low, shared.high) == (1.5, 3.5)
    assert own.high - own.low == pytest.approx(2 * np.hypot(0.75, 0.25))  # type: ignore[operator]
    assert (own.high + own.low) / 2 == pytest.approx(2.5)  # type: ignore[operator]


def test_one_site_without_a_number_leaves_none_and_one_without_a_floor_no_floor() -> None:
    assert mean({"north": NORTH, "east": Value(None, {"real": 10})}).value is None
    assert mean({}).value is None
    found = mean({"north": NORTH, "east": Value(4.0, {"real": 10})})
    assert (found.value, found.floor, found.low) == (2.5, None, None)


def test_value_and_floor_rest_on_as_many_images_of_each_class_in_the_shares_of_the_held_out_ones(
    tmp_path: Path,
) -> None:
    seen, asked = look(tmp_path, tiny_params()), []

    def note(reference: np.ndarray, candidate: np.ndarray) -> dict[str, float]:
        asked.append((len(reference), *np.bincount(candidate[:, 0].astype(int), minlength=3)))
        return {"n": float(candidate[:, 1].mean())}

    def labelled(*counts: int) -> np.ndarray:
        labels = np.repeat(np.arange(3), counts)
        return np.column_stack([labels, np.arange(len(labels))])

    held_out, few, many = labelled(4, 2, 0), labelled(9, 4, 5), labelled(50, 50, 50)
    for train, synthetic in ((few, many), (many, few)):
        asked.clear()
        sets = tuple(rows(seen, images[:, 0]) for images in (held_out, train, synthetic))
        found = beside_floor(seen, note, held_out, train, synthetic, "test", sets)["n"]  # type: ignore[arg-type]
        assert set(asked[: 2 * DRAWS]) == {(6, 8, 4, 0)}, "4 of class 1 are the fewest"
        assert {(held, sum(made)) for held, *made in asked[2 * DRAWS :]} <= {(4, 8), (5, 10)}, "parts keep the shares"
        assert found.n == {"real": 6, "train": 12, "synthetic": 12}
        assert found.low < found.value < found.high  # type: ignore[operator]


def rows(seen: MeasureInputs, labels: np.ndarray, each: int = 1) -> ImageSet:
    """Images of these classes without pixels, `each` in turn of one patient."""
    names = np.array(seen.image.labels)[labels.astype(int)]
    places = np.arange(len(labels))
    table = pd.DataFrame({"label": names, "image_id": places.astype(str), "subject": (places // each).astype(str)})
    return ImageSet(table, np.zeros((len(labels), 0)))


def difference(reference: np.ndarray, candidate: np.ndarray) -> dict[str, float]:
    """Two statistics of (N, 2), classes before values: one that is linear and one that is not,
    whose true values are 1.
    """
    a, b = reference[:, 1], candidate[:, 1]
    return {"mean": float(b.mean() - a.mean()), "wasserstein": float(wasserstein_distance(a, b))}


@pytest.mark.parametrize(
    ("train", "synthetic", "each"),
    [(64, 66, 1), (64, 64, 1), (30, 240, 1), (64, 100, 4)],
    ids=["nearly the whole set", "the whole set", "many for few", "patients of four images"],
)
def test_intervals_cover_the_true_value_in_95_of_100_sites(
    tmp_path: Path, train: int, synthetic: int, each: int
) -> None:
    seen, rng, found = look(tmp_path, tiny_params()), np.random.default_rng(0), []
    sizes = 64, train, synthetic
    labels = [np.arange(n) // each % 2 for n in sizes]
    sets = [rows(seen, of, per) for of, per in zip(labels, (each, 1, 1), strict=True)]
    for _ in range(100):
        values = [np.repeat(rng.normal(size=64 // each), each), rng.normal(size=train), 1 + rng.normal(size=synthetic)]
        arrays = [np.column_stack([of, v]) for of, v in zip(labels, values, strict=True)]
        seen.seed += 1
        found.append(beside_floor(seen, difference, *arrays, "test", tuple(sets)))  # type: ignore[arg-type]
    for name in ("mean", "wasserstein"):
        covered = np.mean([f[name].low <= 1 <= f[name].high for f in found])  # type: ignore[operator]
        assert 0.88 <= covered <= 1, name
    widths = [f["mean"].high - f["mean"].low for f in found]  # type: ignore[operator]
    assert np.mean(widths) == pytest.approx(2 * Z * np.sqrt(each / 64 + 1 / synthetic), rel=0.12)


def test_a_part_keeps_patients_whole_and_of_each_class_its_share() -> None:
    labels, patients = np.repeat([0, 1, 2], [80, 12, 2]), np.array([str(i // 2) for i in range(94)])
    for seed in range(20):
        kept = part(labels, patients, np.random.default_rng(seed))
        assert (kept[::2] == kept[1::2]).all()
        assert kept[labels == 0].mean() == KEPT
        assert kept[labels == 1].mean() in (4 / 6, 5 / 6)
        assert kept[labels == 2].all(), "a class is not left out"


def test_draws_in_turn_bring_every_image_equally_often() -> None:
    draws = list(in_turn(np.repeat([0, 1], [30, 10]), {0: 5, 1: 5}, np.random.default_rng(0)))
    assert {len(set(d)) for d in draws} == {10}
    times = np.bincount(np.concatenate(draws), minlength=40)
    assert set(times[:30]) == {1}
    assert set(times[30:]) == {3}


def test_an_interval_ends_where_the_range_does_and_is_missing_where_nothing_is_known() -> None:
    ends = around(0.9, 0.1, {}, None, (0.0, 1.0))
    assert (ends.low, ends.high) == (pytest.approx(0.704, abs=1e-3), 1)
    assert around(0.9, float("nan"), {}, 0.5) == Value(0.9, {}, 0.5)
    assert around(float("nan"), 0.1, {}, 0.5) == Value(None, {})


@pytest.mark.parametrize(
    ("reference", "others", "quota"),
    [
        ([0, 0, 1], ([0, 0, 0, 0, 1, 1], [0, 0, 1]), {0: 2, 1: 1}),
        ([0, 1], ([0] * 5 + [1] * 7, [0] * 9 + [1] * 6), {0: 5, 1: 5}),
        ([0, 0, 0, 1], ([0, 1, 1], [0, 0, 0, 1]), {0: 1, 1: 1}),  # a class is not left out for being rare
        ([0, 1], ([0, 0], [0, 1]), {}),  # nor for being missing
        ([], ([0, 1], [0, 1]), {}),
    ],
)
def test_classes_are_drawn_in_the_shares_of_the_reference(
    reference: list[int], others: tuple[list[int], ...], quota: dict[int, int]
) -> None:
    assert matched(np.array(reference), *map(np.array, others)) == quota


def test_another_mix_of_classes_is_no_distance(tmp_path: Path) -> None:
    seen = look(tmp_path, tiny_params(), 90, 180)
    labels = seen.synthetic.labels(seen.image)
    mixed = seen.synthetic.where((labels != 0) | (np.arange(180) < 45))
    other = MeasureInputs(seen.image, mixed, seen.extractor, {}, seen.held_out, seen.train, seed=1)
    for measure, name in ((FID(), "fid"), (Intensity(), "intensity_distance")):
        even, uneven = (measure.at_site(s).values[name].value for s in (seen, other))
        assert uneven == pytest.approx(even, rel=0.15)


def test_an_interval_holds_the_middle_95_percent_of_its_replicates() -> None:
    found = interval(np.arange(1001.0), 500.0, {"real": 3}, 7.0)
    assert (found.value, found.floor) == (500, 7)
    assert (found.low, found.high) == (pytest.approx(25), pytest.approx(975))
    assert interval(np.array([1.0]), float("nan"), {"real": 3}) == Value(None, {"real": 3})
    assert interval(np.array([1.0]), 1.0, {}, float("nan")).floor is None


@pytest.mark.parametrize("of", ["mean", "auc"])
def test_an_interval_of_few_patients_covers_as_it_states(of: str) -> None:
    """8 to 20 patients: a mean, an AUC whose truth is .71."""
    rng, held = np.random.default_rng(2), []
    for trial in range(200):
        n = (8, 12, 20)[trial % 3]
        a, b = (rng.normal(1.0, 0.5, n), np.ones(2)) if of == "mean" else (rng.normal(0.8, 1, n), rng.normal(0, 1, n))
        statistic, truth = (lambda x, _: float(x.mean()), 1.0) if of == "mean" else (auc, 0.7142)
        picks = [(rng.integers(0, len(a), len(a)), rng.integers(0, len(b), len(b))) for _ in range(300)]
        found = interval(np.array([statistic(a[i], b[j]) for i, j in picks]), statistic(a, b), {}, observed=n)
        held.append(found.low <= truth <= found.high)  # type: ignore[operator]
    assert 0.91 <= np.mean(held) <= 0.985


def test_a_jackknife_of_few_patients_is_wider() -> None:
    assert student(1000) == pytest.approx(1, abs=2e-3)
    assert student(5) == pytest.approx(2.776 / 1.96, abs=1e-3)
    assert np.isnan(student(1))


def test_one_patient_has_no_interval(tmp_path: Path) -> None:
    seen = look(tmp_path, tiny_params())
    alone, several = np.array([[1.0, 2.0]]), np.array([3.0, 4.0, 7.0])
    found = bootstrap(
        seen, lambda a, b: float(a.mean() + b.mean()), several, alone, purpose="test", n={"real": 3}, floor=1.0
    )
    assert (found.value, found.floor, found.low, found.high) == (pytest.approx(14 / 3 + 1.5), 1.0, None, None)


def test_the_bootstrap_of_a_mean_is_as_wide_as_its_standard_error(tmp_path: Path) -> None:
    seen = look(tmp_path, tiny_params())
    sample = np.random.default_rng(0).normal(size=200)
    found = bootstrap(seen, np.mean, sample, purpose="test", n={"real": 200}, times=2000)
    assert found.value == pytest.approx(sample.mean())
    expected = 2 * 1.96 * sample.std() / np.sqrt(200)
    assert found.high - found.low == pytest.approx(expected, rel=0.1)  # type: ignore[operator]


def test_there_is_nothing_real_at_the_centre(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no real images"):
        _ = centre(look(tmp_path, tiny_params())).real
