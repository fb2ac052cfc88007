"""Who trains on what: the rows keep their contract, and no network sees a test image before it is judged by it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedsynth.dataset import ImageSet
from fedsynth.stages import score
from tests.sets import make_set, tiny_params

USES = {
    name.lower(): {"class_path": f"fedsynth.uses.{name.lower()}.{name}", "args": {"steps": 3}}
    for name in ("Classification", "Segmentation")
}
PARAMS = tiny_params(score={"uses": USES, "seeds": [1, 2]})
SITES = ("north", "east")


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> dict[str, ImageSet]:
    folder = tmp_path_factory.mktemp("sites")
    return {site: make_set(folder / site, PARAMS, site, n=30) for site in SITES}


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory) -> ImageSet:
    folder = tmp_path_factory.mktemp("synthetic")
    return make_set(folder, PARAMS, "synthetic", n=24, seed=9, split="train", origin="synthetic", model="vae/abc")


@pytest.fixture(scope="module")
def trained(sets, synthetic) -> tuple[score.Networks, score.Networks]:
    pooled = score.fit_pooled(PARAMS, sets)
    by_seed = {seed: score.fit_synthetic(PARAMS, synthetic, seed) for seed in PARAMS.score.seeds}
    return pooled, {use: {seed: states[use] for seed, states in by_seed.items()} for use in USES}


@pytest.fixture(scope="module")
def rows(sets, synthetic, trained):
    pooled, fitted = trained
    reference = score.reference_at_site(PARAMS, "north", sets["north"], pooled)
    return reference + score.score_at_site(PARAMS, "north", sets["north"], synthetic, fitted, "vae")


def poisoned(real: ImageSet) -> ImageSet:
    """The same set with NaN in every image that is not of the training split."""
    images = np.array(real.images)
    images[(real.manifest["split"] != "train").to_numpy()] = np.nan
    return ImageSet(real.manifest, images)


def equal(one: score.Networks, other: score.Networks) -> bool:
    a, b = score.to_arrays(one), score.to_arrays(other)
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_there_is_a_row_for_each_use_name_and_seed(rows):
    found = {(r["use"], r["name"], r["seed"], r["trained_on"], r["model"], r["site"]) for r in rows}
    kinds = [("local", "north", ""), ("pooled", "all", ""), ("synthetic", "vae", "vae"), ("augmented", "north", "vae")]
    assert found == {(use, name, seed, on, model, "north") for use in USES for seed in (1, 2) for name, on, model in kinds}
    assert len(rows) == len(found)


def test_a_row_is_plain_json_with_the_headline_first_and_a_count_for_each_metric(rows):
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    for r in rows:
        assert next(iter(r["metrics"])) == score.uses(PARAMS)[r["use"]].headline
        assert r["metrics"].keys() == r["n"].keys()


def test_counts_are_of_the_test_split(rows, sets):
    test = sets["north"].split("test").manifest
    counted = next(r["n"] for r in rows if r["use"] == "classification")
    assert set(counted.values()) == {len(test)}
    assert next(r["n"]["dice"] for r in rows if r["use"] == "segmentation") == (test["mask_area"] > 0).sum()


def test_no_test_image_disturbs_a_pooled_network(sets, trained):
    assert equal(trained[0], score.fit_pooled(PARAMS, {site: poisoned(real) for site, real in sets.items()}))


def test_no_test_image_disturbs_a_network_trained_at_a_site(sets, synthetic, trained, monkeypatch):
    seen = []
    original = score._fit
    monkeypatch.setattr(score, "_fit", lambda *a, **k: seen.append(original(*a, **k)) or seen[-1])
    score.reference_at_site(PARAMS, "north", poisoned(sets["north"]), {})
    score.score_at_site(PARAMS, "north", poisoned(sets["north"]), synthetic, trained[1], "vae")
    assert len(seen) == 2 * len(USES) * len(PARAMS.score.seeds)  # local and augmented
    assert all(np.isfinite(array).all() for state in seen for array in state.values())


def test_the_poison_would_be_seen(sets):
    everything = poisoned(sets["north"])
    everything = ImageSet(everything.manifest.assign(split="train"), everything.images)
    state = score.fit_synthetic(PARAMS, everything, seed=1)["classification"]
    assert not all(np.isfinite(array).all() for array in state.values())


def test_a_row_with_a_problem_is_neither_learned_from_nor_tested(sets):
    real = sets["north"]
    bad = ImageSet(real.manifest.assign(problem=["cannot be read", *[""] * (len(real) - 1)]), real.images)
    assert len(score.training(bad)) + len(score.testing(bad)) + len(bad.split("val")) == len(real) - 1


def test_synthetic_images_are_no_test_images(synthetic):
    with pytest.raises(ValueError, match="real ones only"):
        score.testing(ImageSet(synthetic.manifest.assign(split="test"), synthetic.images))


def test_without_pooled_networks_there_are_no_pooled_rows(sets):
    assert {r["name"] for r in score.reference_at_site(PARAMS, "north", sets["north"], {})} == {"local"}


def test_networks_travel_as_flat_float32_arrays_and_come_back_the_same(trained):
    arrays = score.to_arrays(trained[0])
    assert all(name.count("/") == 2 for name in arrays)
    assert {name.rpartition("/")[0] for name in arrays} == {f"{use}/{seed}" for use in USES for seed in (1, 2)}
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    assert equal(score.from_arrays(arrays), trained[0])


def test_half_of_what_is_drawn_of_a_class_is_real_however_many_there_are(sets, synthetic):
    few = score.training(sets["north"]).where(np.arange(len(score.training(sets["north"]))) < 5)
    few = few.where(few.manifest["label"] != "none")  # a class that the site has no image of comes from the synthetic set alone
    both = score.concatenate([few, synthetic])
    weights = score.balance(both, len(few)).numpy()
    real = np.arange(len(both)) < len(few)
    for label in PARAMS.image.labels:
        of_class = (both.manifest["label"] == label).to_numpy()
        share = weights[of_class & real].sum() / weights[of_class].sum()
        assert share == pytest.approx(0 if label == "none" else score.REAL_SHARE)
