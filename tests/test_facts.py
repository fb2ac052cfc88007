"""The facts of a model: every number under one flat name, what is missing stays missing, and the worst is named."""

from __future__ import annotations

import json

import pytest

from fedsynth import worth
from fedsynth.errors import UserError
from fedsynth.facts import digest, facts
from tests.judged import MEASURES, judged, measure, rows
from tests.sets import tiny_params
from tests.trained import trained

PARAMS = tiny_params()


@pytest.fixture
def root(tmp_path):
    trained(tmp_path, PARAMS)
    judged(tmp_path)
    return tmp_path


def numbers(root):
    return facts(PARAMS, root, "vae")["numbers"]


def test_worth_is_what_the_table_of_worth_says(root):
    found = facts(PARAMS, root, "vae")
    assert found["uses"] == worth.summary(worth.rows(root, ["vae"]))["vae"]
    assert found["numbers"]["classification/retained"] == found["uses"]["classification"]["retained"] == pytest.approx(0.75 / 0.9, abs=1e-3)
    assert found["numbers"]["classification/gap_closed_poorest"] == pytest.approx(0.75)
    assert json.loads(json.dumps(found, allow_nan=False)) == found, "plain JSON"


def test_a_metric_is_the_mean_over_the_sites_of_the_networks_that_saw_synthetic_images_alone(root):
    assert numbers(root)["classification/balanced_accuracy"] == 0.75
    judged(root, augmented=0.1)
    assert numbers(root)["classification/balanced_accuracy"] == 0.75


def test_the_worst_site_is_the_highest_where_lower_is_better(root):
    found = numbers(root)
    assert found["segmentation/dice@worst_site"] == 0.4
    assert found["segmentation/hd95@worst_site"] == 9.0
    assert found["classification/ece@worst_site"] == 0.2
    assert found["classification/retained@worst_site"] == pytest.approx(0.7 / 0.9, abs=1e-3)
    assert (found["fid@worst_site"], found["coverage@worst_site"]) == (2.2, 0.7)
    assert found["ms_ssim@worst_site"] == 0.1, "0.1 is further from the floor of 0.3 than 0.4 is"
    assert found["fid@south"] == 1.8


def test_a_class_has_its_own_numbers_apart_from_the_metrics_of_all(root):
    found = facts(PARAMS, root, "vae")
    assert found["numbers"]["classification/sensitivity.extra_axial"] == pytest.approx(0.55)
    assert set(found["by_class"]["classification"]) == {"sensitivity.none", "sensitivity.extra_axial"}
    assert set(found["scores"]["classification"]) == {"balanced_accuracy", "ece", "sensitivity"}
    assert found["scores"]["segmentation"]["hd95"] == {"mean": 6.0, "sites": {"north": 3.0, "south": 9.0}, "worst_site": "south"}


def test_the_worst_site_and_class_are_named(root):
    worst = facts(PARAMS, root, "vae")["worst"]
    assert worst["classification"] == {
        "site": {"metric": "balanced_accuracy", "site": "south", "value": 0.7},
        "class": {"metric": "sensitivity", "label": "extra_axial", "value": 0.55},
    }
    assert worst["segmentation"]["class"] is None, "withheld at one site"


def test_a_value_that_one_site_lacks_makes_the_mean_and_the_worst_site_unknown(root):
    found = numbers(root)
    assert found["segmentation/dice.infiltrating@north"] == 0.5
    for name in ("segmentation/dice.infiltrating", "segmentation/dice.infiltrating@worst_site"):
        assert name in found
        assert found[name] is None
    judged(root, measures={"fid": measure(None, None, {"north": (1.0, 1.0), "south": (None, 1.0)})})
    assert numbers(root)["fid@worst_site"] is None


def test_floors_go_with_their_measures_and_sites(root):
    floors = facts(PARAMS, root, "vae")["floors"]
    assert (floors["fid"], floors["fid@south"], floors["membership_loss_auc"]) == (1.0, 0.5, None)


def test_what_is_missing_has_its_reason(root):
    judged(root, rows=rows("synthetic", "vae"))
    found = facts(PARAMS, root, "vae")
    assert found["numbers"]["classification/gap_closed"] is None
    assert found["why"]["classification/gap_closed"] == "no augmented"
    assert found["why"]["membership_loss_auc"] == MEASURES["membership_loss_auc"]["why"]
    assert (found["epsilon"], found["numbers"]["epsilon"]) == (None, None)
    assert found["why"]["epsilon"] == "no differential privacy was used, so there is no epsilon"


def test_a_use_that_was_not_scored_is_missing_and_not_absent(root):
    judged(root, rows=[])
    found = numbers(root)
    assert "classification/retained" in found
    assert found["classification/retained"] is None


def test_epsilon_is_what_the_training_says_it_spent(root):
    path = root / "models" / "vae" / "model.json"
    spent = {"epsilon": 3.5, "delta": 1e-5, "unit": "image"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"epsilon": spent}))
    found = facts(PARAMS, root, "vae")
    assert (found["epsilon"], found["numbers"]["epsilon"]) == (spent, 3.5)
    assert "epsilon" not in found["why"]


def test_scores_of_other_weights_are_refused(root):
    about = trained(root, PARAMS, seed=5)
    judged(root, weights_sha256=about["weights_sha256"])
    facts(PARAMS, root, "vae")
    trained(root, PARAMS, seed=6)
    with pytest.raises(UserError, match=r"reports/score/vae\.json is of other weights .* run `dvc repro score@vae`"):
        facts(PARAMS, root, "vae")


def test_a_file_that_is_missing_is_named_with_its_stage(root):
    (root / "reports" / "score" / "vae.json").unlink()
    with pytest.raises(UserError, match=r"score/vae\.json is not there; run `dvc repro score@vae`"):
        facts(PARAMS, root, "vae")


def test_the_same_references_have_the_same_digest_and_others_another():
    real = rows("local", at={"north": 0.7, "south": 0.5})
    assert digest(real) == digest(json.loads(json.dumps(real, indent=3)))
    assert digest(real) != digest(rows("local", at={"north": 0.7, "south": 0.51}))
    assert digest(real) != digest(real[:-1])
