"""Who trains on what: the rows keep their contract, and no network sees a test image before it is judged by it."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.hospital import outgoing
from fedsynth.measures import mean as score_mean
from fedsynth.measures.copies import Copies
from fedsynth.measures.membership import Membership
from fedsynth.stages import reference, score
from fedsynth.worth import use_networks
from tests.sets import make_set, spoilt, tiny_params

USES = {
    "classification": {
        "class_path": "fedsynth.uses.classification.Classification",
        "args": {"steps": 3, "features": 16},
    },
    "segmentation": {"class_path": "fedsynth.uses.segmentation.Segmentation", "args": {"steps": 3}},
}
PARAMS = tiny_params(score={"uses": USES, "seeds": [1, 2]})
MEASURES = {
    "fid": {"class_path": "fedsynth.measures.fid.FID"},
    "class_agreement": {"class_path": "fedsynth.measures.class_agreement.ClassAgreement"},
    "intensity": {"class_path": "fedsynth.measures.intensity.Intensity"},
}
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
def sent(sets, synthetic) -> dict[str, use_networks.Networks]:
    """What the centre sends. One round of one site is FedAvg's simplest case."""
    return {
        "synthetic": score.fit_synthetic(PARAMS, synthetic),
        "federated": use_networks.from_arrays(reference.begin(PARAMS)),
        "pooled": reference.fit_pooled(PARAMS, sets),
    }


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def found(sets, synthetic, sent, state):
    references = {kind: sent[kind] for kind in ("federated", "pooled")}
    rows = reference.at_site(PARAMS, "north", sets["north"], references, state)
    more, spread = score.rows_at_site(PARAMS, "north", sets["north"], synthetic, sent, state, "vae")
    return rows + more, spread


@pytest.fixture(scope="module")
def rows(found):
    return found[0]


def poisoned(real: ImageSet) -> ImageSet:
    """The same set with NaN in every image that is not of the training split."""
    return spoilt(real, "val", "test")


def equal(one: use_networks.Networks, other: use_networks.Networks) -> bool:
    a, b = use_networks.to_arrays(one), use_networks.to_arrays(other)
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_there_is_a_row_for_each_use_name_and_seed(rows):
    got = {(r["use"], r["name"], r["seed"], r["trained_on"], r["model"], r["site"]) for r in rows}
    kinds = [
        ("local", "north", ""),
        ("federated", "all", ""),
        ("pooled", "all", ""),
        ("synthetic", "vae", "vae"),
        ("augmented", "north", "vae"),
    ]
    assert got == {
        (use, name, seed, on, model, "north") for use in USES for seed in (1, 2) for name, on, model in kinds
    }
    assert len(rows) == len(got)


def test_a_row_is_plain_json_with_the_headline_first_and_a_count_for_each_metric(rows):
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    for r in rows:
        assert next(iter(r["metrics"])) == use_networks.uses(PARAMS)[r["use"]].headline
        assert r["metrics"].keys() == r["n"].keys()


def test_counts_are_of_the_test_split(rows, sets):
    test = sets["north"].split("test").manifest
    counted = next(r["n"] for r in rows if r["use"] == "classification")
    assert counted["balanced_accuracy"] == counted["auroc"] == len(test)
    assert counted["sensitivity.none"] == (test["label"] == "none").sum()
    assert next(r["n"]["dice"] for r in rows if r["use"] == "segmentation") == (test["mask_area"] > 0).sum()


def test_no_test_image_disturbs_a_pooled_network(sets, sent):
    assert equal(sent["pooled"], reference.fit_pooled(PARAMS, {site: poisoned(real) for site, real in sets.items()}))


def test_no_test_image_disturbs_a_federated_network(sets, tmp_path):
    differences = [reference.Federated(PARAMS, of, tmp_path / str(i)).round(reference.begin(PARAMS), 0)[0]
                   for i, of in enumerate((sets["north"], poisoned(sets["north"])))]  # fmt: skip
    assert all(np.array_equal(differences[0][name], differences[1][name]) for name in differences[0])


def test_no_test_image_disturbs_a_network_trained_at_a_site(sets, synthetic, sent, tmp_path, monkeypatch):
    seen = []
    original = use_networks.fit
    for module in (reference, score):
        monkeypatch.setattr(module, "fit", lambda *a, **k: seen.append(original(*a, **k)) or seen[-1])
    reference.at_site(PARAMS, "north", poisoned(sets["north"]), {}, tmp_path)
    score.rows_at_site(PARAMS, "north", poisoned(sets["north"]), synthetic, sent, tmp_path, "vae")
    assert len(seen) == 2 * len(USES) * len(PARAMS.score.seeds)  # local and augmented
    assert all(np.isfinite(array).all() for state in seen for array in state.values())


def test_the_poison_would_be_seen(sets):
    everything = poisoned(sets["north"])
    everything = ImageSet(everything.manifest.assign(split="train"), everything.images)
    state = score.fit_synthetic(PARAMS, everything)["classification"][1]
    assert not all(np.isfinite(array).all() for array in state.values())


def test_a_row_with_a_problem_is_neither_learned_from_nor_tested(sets):
    real = sets["north"]
    bad = ImageSet(real.manifest.assign(problem=["cannot be read", *[""] * (len(real) - 1)]), real.images)
    assert len(use_networks.training(bad)) + len(use_networks.held_out(bad)) == len(real) - 1


def test_held_out_is_all_that_nothing_was_trained_on(sets):
    real = sets["north"]
    assert not set(use_networks.held_out(real).manifest["image_id"]) & set(
        use_networks.training(real).manifest["image_id"]
    )
    assert set(use_networks.testing(real).manifest["image_id"]) < set(use_networks.held_out(real).manifest["image_id"])


def test_synthetic_images_are_no_test_images(synthetic):
    with pytest.raises(ValueError, match="real ones only"):
        use_networks.testing(ImageSet(synthetic.manifest.assign(split="test"), synthetic.images))


def test_without_pooled_networks_there_are_no_pooled_rows(sets, tmp_path):
    assert {r["name"] for r in reference.at_site(PARAMS, "north", sets["north"], {}, tmp_path)} == {"local"}


def test_networks_travel_as_flat_float32_arrays_and_come_back_the_same(sent):
    arrays = use_networks.to_arrays(sent["pooled"])
    assert all(name.count("/") == 2 for name in arrays)
    assert {name.rpartition("/")[0] for name in arrays} == {f"{use}/{seed}" for use in USES for seed in (1, 2)}
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    assert equal(use_networks.from_arrays(arrays), sent["pooled"])
    together = use_networks.to_arrays(sent["pooled"], "pooled") | use_networks.to_arrays(sent["federated"], "federated")
    back = use_networks.by_row(together)
    assert list(back) == ["pooled", "federated"]
    assert equal(back["federated"], sent["federated"])


def test_a_share_of_what_is_drawn_of_a_class_is_real_however_many_there_are(sets, synthetic):
    few = use_networks.training(sets["north"]).where(np.arange(len(use_networks.training(sets["north"]))) < 5)
    # a class that the site has no image of comes from the synthetic set alone
    few = few.where(few.manifest["label"] != "none")
    both = concatenate([few, synthetic])
    weights = score.balance(both, len(few), 0.3)
    real = np.arange(len(both)) < len(few)
    for label in PARAMS.image.labels:
        of_class = (both.manifest["label"] == label).to_numpy()
        share = weights[of_class & real].sum() / weights[of_class].sum()
        assert share == pytest.approx(0 if label == "none" else 0.3)


def test_fedavg_of_one_site_is_training_there_in_one_go(sets, tmp_path):
    one = tiny_params(score={"uses": USES, "seeds": [1], "rounds": 2})
    federated, arrays = reference.Federated(one, sets["north"], tmp_path / "state.pt"), reference.begin(one)
    for number in range(2):
        difference, losses, steps = federated.round(arrays, number)
        arrays = {name: a + difference[name] for name, a in arrays.items()}
        assert losses.keys() == USES.keys()
        assert steps == (2, 4)[number]  # three steps of each use, dealt out to two rounds
    alone = use_networks.to_arrays(
        {
            name: {1: use_networks.fit(use, one, use_networks.training(sets["north"]), 1)}
            for name, use in use_networks.uses(one).items()
        }
    )
    assert all(np.allclose(arrays[name], alone[name], atol=1e-6) for name in alone)


def test_a_process_that_takes_over_goes_on_with_the_optimiser_of_the_one_before(sets, tmp_path):
    one = tiny_params(score={"uses": USES, "seeds": [1], "rounds": 2})
    first, begun = reference.Federated(one, sets["north"], tmp_path / "a.pt"), reference.begin(one)
    second = {name: a + d for (name, a), d in zip(begun.items(), first.round(begun, 0)[0].values(), strict=True)}
    shutil.copy(tmp_path / "a.pt", tmp_path / "b.pt")
    through, taken_over = (
        first.round(second, 1)[0],
        reference.Federated(one, sets["north"], tmp_path / "b.pt").round(second, 1)[0],
    )
    afresh = reference.Federated(one, sets["north"], tmp_path / "c.pt").round(second, 1)[0]
    assert all(np.array_equal(through[name], taken_over[name]) for name in through)
    assert not all(np.array_equal(through[name], afresh[name]) for name in through)


def test_local_networks_are_kept_at_the_site_and_fitted_again_where_they_are_gone(sets, tmp_path, state, found):
    kept = list(state.glob("local-*.safetensors"))
    assert len(kept) == 1
    assert equal(reference.local(PARAMS, sets["north"], state), reference.local(PARAMS, sets["north"], tmp_path))
    other = tiny_params(score={"uses": USES, "seeds": [3]})
    reference.local(other, sets["north"], tmp_path)
    assert len(list(tmp_path.glob("local-*.safetensors"))) == 2, "another question is another file"


def test_how_rows_vary_together_is_of_all_rows_and_leaves_no_resampled_metric(found):
    _, spread = found
    assert {s["use"] for s in spread} == set(USES)
    for s in spread:
        assert s.keys() == {"use", "model", "site", "metric", "names", "covariance", "n"}
        assert set(s["names"]) == {"local", "synthetic", "federated", "pooled", "augmented"}
        assert s["covariance"] is None, "a class has one test subject, or none"
    use, rng, y = use_networks.uses(PARAMS)["classification"], np.random.default_rng(0), np.arange(60) % 3
    rows = {name: [answers(rng.random(60) < 0.7, y) for _ in range(2)] for name in ("local", "pooled", "synthetic")}
    matrix = np.array(score.covariance(use, rows, np.arange(60), 1)["covariance"])
    assert matrix.shape == (3, 3)
    assert np.allclose(matrix, matrix.T)
    assert (np.linalg.eigvalsh(matrix) > 0).all()


def test_a_share_is_chosen_on_validation_images_and_never_on_those_of_the_test(sets, synthetic, monkeypatch):
    use, real = use_networks.uses(PARAMS)["classification"], sets["north"]
    both, asked = concatenate([use_networks.training(real), synthetic]), tiny_params(
        score={"uses": USES, "seeds": [1, 2], "real_share": "val"})  # fmt: skip
    assert score.real_share(PARAMS, use, real, both) == PARAMS.score.real_share
    tried, shown = [], []
    monkeypatch.setattr(score, "fit", lambda use, params, images, seed, weights: tried.append(weights) or {})
    monkeypatch.setattr(score, "network", lambda *a: None)
    monkeypatch.setattr(type(use), "judged", lambda self, net, x, m, y: shown.append(len(y)))
    monkeypatch.setattr(type(use), "value", lambda self, table: (0.5, 0.4, 0.8, float("nan"))[len(tried) - 1])
    assert score.real_share(asked, use, real, both) == use_networks.SHARES[2], "the best; what is not a number is not"
    assert set(shown) == {len(use_networks.choosing(real))}
    n = len(use_networks.training(real))
    assert [weights[:n].sum() / weights.sum() for weights in tried] == pytest.approx(use_networks.SHARES)
    none = real.where(real.manifest["split"] != "val")
    assert score.real_share(asked, use, none, both) == use_networks.SHARES[0], "nothing to choose by"


def answers(right: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """A classifier's table in which these images (N,) bool are told right."""
    return {"logits": np.eye(3)[np.where(right, y, (y + 1) % 3)], "y": y}


def test_a_network_varies_with_itself_wholly_and_as_the_mean_over_the_classes_does():
    use = use_networks.uses(PARAMS)["classification"]
    y = np.arange(60) % 3
    good = answers(np.arange(60) % 4 > 0, y)
    matrix = np.array(score.covariance(use, {"local": [good], "pooled": [good]}, np.arange(60), 1)["covariance"])
    assert np.allclose(matrix, matrix[0, 0])
    assert matrix[0, 0] == pytest.approx(0.75 * 0.25 / 60 * (2.001 / 1.96) ** 2, rel=0.1), "p (1 - p) / n, widened by t"


def test_images_of_one_subject_count_as_one():
    use = use_networks.uses(PARAMS)["classification"]
    y, right = np.arange(30) % 3, np.arange(30) % 4 > 0
    one = score.covariance(use, {"local": [answers(right, y)]}, np.arange(30), 1)
    many = np.repeat(np.arange(30), 10)
    ten = score.covariance(use, {"local": [answers(right[many], y[many])]}, many, 1)
    assert ten["covariance"] == one["covariance"], "ten times the same image of a subject say no more than one"
    assert (one["n"], ten["n"]) == (30, 300)


def test_what_rests_on_few_subjects_or_on_one_of_a_class_has_no_covariance():
    use, y = use_networks.uses(PARAMS)["classification"], np.arange(60) % 3
    table = {"local": [answers(np.arange(60) % 4 > 0, y)]}
    assert score.covariance(use, table, np.arange(60) // 20, 1, least=5)["covariance"] is None
    lone = np.where(y == 0, 60, np.arange(60))
    assert score.covariance(use, table, lone, 1)["covariance"] is None, (
        "the class's accuracy varies by nobody knows what"
    )


def test_many_subjects_are_left_out_in_parts():
    parts = score.parted(np.arange(1000) // 2, np.random.default_rng(0))
    assert len(np.unique(parts)) == score.GROUPS
    assert (parts[::2] == parts[1::2]).all(), "no subject is in two"


def test_a_row_in_which_nothing_varies_has_not_an_interval_of_no_width():
    use, y = use_networks.uses(PARAMS)["classification"], np.arange(60) % 3
    found = score.covariance(use, {"local": [answers(np.ones(60, bool), y)]}, np.arange(60), 1)
    assert found["covariance"][0][0] == pytest.approx(1 / 61**2, abs=1e-8)


MEASURED = tiny_params(score={"uses": USES, "seeds": [1], "measures": MEASURES})


@pytest.fixture(scope="module")
def told(sets, synthetic, sent, tmp_path_factory):
    """What the centre has seen, and what each site has sent."""
    params, answers = MEASURED, {}
    centre = score.seen(params, synthetic, sent["federated"], tmp_path_factory.mktemp("extractors"))
    for site in SITES:
        of = score.seen(params, synthetic, sent["federated"], Path("none"), sets[site])
        known = outgoing.vocabulary("score", params, site)
        answers[site] = outgoing.leave("score", {"rows": [], "measures": score.measured_at_site(params, of)}, known)[
            "measures"
        ]
    return centre, answers


@pytest.fixture(scope="module")
def measured(told):
    return score.combined(MEASURED, *told, {})


def test_measures_pass_the_door_of_the_site_and_come_together_at_the_centre(measured):
    assert set(measured) == {"fid", "pooled_fid", "class_agreement", "intensity_distance"}
    for number in measured.values():
        assert number.keys() == {
            "measure",
            "audit",
            "kind",
            "better",
            "title",
            "text",
            "value",
            "floor",
            "low",
            "high",
            "n",
            "why",
            "sites",
        }
        assert (number["value"] is None) == bool(number["why"])
        assert json.loads(json.dumps(number, allow_nan=False)) == number
    assert measured["intensity_distance"]["value"] > 0
    assert measured["intensity_distance"]["sites"].keys() == set(SITES)


def test_a_measure_that_could_not_be_computed_is_none_and_says_where(measured):
    assert measured["fid"]["value"] is None, "few images of each class and sixteen features"
    assert measured["fid"]["why"] == "could not be computed at north, east"
    assert measured["fid"]["sites"]["north"]["why"] == "could not be computed", (
        "its counts are no reason that is known here"
    )


def test_too_few_images_are_the_reason_only_where_counts_say_so(told):
    centre, answers = told[0], copy.deepcopy(told[1])
    for number in ("fid", "pooled_fid"):
        answers["east"]["fid"]["values"][number] |= {
            "value": None,
            "floor": None,
            "n": {"real": "< 5", "train": 9, "synthetic": 9},
        }
    found = score.combined(MEASURED, centre, answers, {})["fid"]
    assert found["why"] == "could not be computed at north, east (too few images: real < 5)"
    assert found["sites"]["east"]["n"]["real"] == "< 5"


def test_without_the_answer_of_one_site_there_is_no_measure_of_all_sites(told, measured):
    found = score.combined(MEASURED, *told, {"west": "not connected"})
    for name, number in found.items():
        assert number["value"] is number["floor"] is number["low"] is None, name
        assert "west (did not answer: not connected)" in number["why"]
        assert number["sites"]["west"] == {"value": None, "floor": None, "low": None, "high": None, "n": {},
                                           "why": "did not answer: not connected"}  # fmt: skip
    assert (
        found["intensity_distance"]["sites"]["north"]["value"]
        == measured["intensity_distance"]["sites"]["north"]["value"]
        is not None
    )


def test_where_one_site_has_no_number_there_is_none_for_all(sets, synthetic, sent):
    one = score.Value(0.5, {"real": 10})
    assert score_mean({"north": one, "east": score.Value(None, {"real": 3})}).value is None
    assert score_mean({"north": one, "east": one}).value == pytest.approx(0.5)


ROLES = tiny_params(
    score={"uses": USES, "seeds": [1], "measures": MEASURES | {
        "copies": {"class_path": "fedsynth.measures.copies.Copies"},
        "membership": {"class_path": "fedsynth.measures.membership.Membership"},
        "kid": {"class_path": "fedsynth.measures.kid.KID"},
        "prdc": {"class_path": "fedsynth.measures.prdc.PRDC"},
        "ms_ssim": {"class_path": "fedsynth.measures.ms_ssim.MSSSIM"},
    }},
    split={"test_only": ["east"], "train_only": ["west"]},
)  # fmt: skip


@pytest.fixture(scope="module")
def all_tested(sets) -> ImageSet:
    return ImageSet(sets["east"].manifest.assign(split="test"), sets["east"].images)


def test_a_site_that_tests_only_trains_nothing_and_judges_what_it_is_sent(all_tested, synthetic, sent, tmp_path):
    one = {row: {use: {1: of[1]} for use, of in networks.items()} for row, networks in sent.items()}
    rows = reference.at_site(ROLES, "east", all_tested, {"pooled": one["pooled"]}, tmp_path)
    more, spread = score.rows_at_site(ROLES, "east", all_tested, synthetic, one, tmp_path, "vae")
    assert {r["name"] for r in rows} == {"pooled"}
    assert {r["name"] for r in more} == {"synthetic"}
    assert all(set(s["names"]) == {"synthetic", "federated", "pooled"} for s in spread)
    assert not list(tmp_path.iterdir()), "a network was trained there"


def test_what_has_no_training_images_is_no_part_of_a_measure_of_all_sites(sets, all_tested, synthetic, sent, tmp_path):
    centre = score.seen(ROLES, synthetic, sent["federated"], tmp_path)
    answers = {}
    for site, real in (("north", sets["north"]), ("east", all_tested)):
        of = score.seen(ROLES, synthetic, sent["federated"], tmp_path, real)
        measured, known = score.measured_at_site(ROLES, of), outgoing.vocabulary("score", ROLES, site)
        answers[site] = outgoing.leave("score", {"rows": [], "measures": measured}, known)["measures"]
    both, alone = (
        score.combined(ROLES, centre, {site: answers[site] for site in there}, {}, ["west"])
        for there in (("north", "east"), ("north",))
    )
    for name, number in both.items():
        assert {k: v for k, v in number.items() if k != "sites"} == {
            k: v for k, v in alone[name].items() if k != "sites"
        }, name
    audits = [*Copies().about, *Membership().about]
    for name in audits:
        assert both[name]["value"] is None
        assert f"west ({score.TRAINS_ONLY})" in both[name]["why"]
    assert both["intensity_distance"]["value"] == both["intensity_distance"]["sites"]["north"]["value"] is not None
    assert both["intensity_distance"]["sites"]["east"]["why"] == score.TESTS_ONLY
    assert "west" not in both["intensity_distance"]["sites"]


def test_copies_leave_as_none_or_some_where_the_hospital_says_so(sets, synthetic, sent, tmp_path):
    params = ROLES.model_copy(update={"split": MEASURED.split})
    of = score.seen(params, synthetic, sent["federated"], tmp_path, sets["north"])
    measured, known = score.measured_at_site(params, of), outgoing.vocabulary("score", params, "north")
    values = measured["copies"]["values"]
    values["copies_pixel"] |= {
        "value": 3.0,
        "floor": 1.0,
        "low": 1.0,
        "high": 8.0,
        "n": {"real": 12, "train": 18, "synthetic": 24},
    }
    values["copies_feature"] |= {"value": 0.0, "floor": 2.0, "n": {"real": 12, "train": 18, "synthetic": 24}}
    outgoing.in_words(measured)
    left = outgoing.leave("score", {"rows": [], "measures": measured}, known)["measures"]
    nothing = dict.fromkeys(("value", "floor", "low", "high"))
    counts = {"real": 12, "train": 18, "synthetic": 24}
    assert left["copies"]["values"]["copies_pixel"] == nothing | {"n": counts, "some": True}
    assert left["copies"]["values"]["copies_feature"]["value"] == 0
    assert left["copies"]["values"]["copies_feature"]["floor"] is None
    centre = score.seen(params, synthetic, sent["federated"], tmp_path)
    found = score.combined(params, centre, {"north": left}, {})
    assert found["copies_pixel"]["value"] is None
    assert found["copies_pixel"]["why"] == f"could not be computed at north ({score.SOME})"
    assert found["copies_feature"]["value"] == 0
    bad = {"values": {"copies_pixel": left["copies"]["values"]["copies_pixel"] | {"value": 3.0}}, "moments": {}}
    with pytest.raises(outgoing.LeakError):
        outgoing.leave("score", {"rows": [], "measures": {"copies": bad}}, known)
