"""The facts of a model: every number under one flat name, what is missing stays missing, and the worst is named."""

from __future__ import annotations

import json

import pytest

from fedsynth.errors import UserError
from fedsynth.report.fact_tables import tables, worst
from fedsynth.worth import worth
from fedsynth.worth.facts import digest, facts
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
    assert (
        found["numbers"]["classification/retained"]
        == found["uses"]["classification"]["retained"]
        == pytest.approx(0.75 / 0.9, abs=1e-3)
    )
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
    assert found["scores"]["segmentation"]["hd95"] == {
        "mean": 6.0,
        "sites": {"north": 3.0, "south": 9.0},
        "worst_site": "south",
    }


def test_the_worst_site_and_class_are_named(root):
    found = facts(PARAMS, root, "vae")["worst"]
    assert found["classification"] == {
        "site": {"metric": "balanced_accuracy", "site": "south", "value": 0.7, "unknown": []},
        "class": {"metric": "sensitivity", "label": "extra_axial", "value": 0.55, "unknown": []},
    }
    assert found["segmentation"]["class"] is None, "withheld at one site"


def test_a_value_that_one_site_lacks_makes_the_mean_and_the_worst_site_unknown(root):
    found = numbers(root)
    assert found["segmentation/dice.infiltrating@north"] == 0.5
    for name in ("segmentation/dice.infiltrating", "segmentation/dice.infiltrating@worst_site"):
        assert name in found
        assert found[name] is None
    judged(root, measures={"fid": measure(None, None, {"north": (1.0, 1.0), "south": (None, 1.0)})})
    assert numbers(root)["fid@worst_site"] is None


def test_the_worst_site_is_of_those_known_and_the_gate_on_it_is_missing(root):
    withheld = rows("synthetic", "vae")
    for r in (r for r in withheld if r["site"] == "south"):
        r["metrics"], r["n"] = dict.fromkeys(r["metrics"]), dict.fromkeys(r["n"], "< 5")
    judged(root, rows=withheld)
    params = tiny_params(gates={"require": ["classification/balanced_accuracy@worst_site >= 0.1"], "warn": []})
    found = facts(params, root, "vae")
    assert found["worst"]["classification"]["site"] == {
        "metric": "balanced_accuracy",
        "site": "north",
        "value": 0.8,
        "unknown": ["south"],
    }
    assert worst(found)[0].startswith(
        "classification: worst at north (balanced accuracy 0.80) of those known, south withheld or missing"
    )
    (gate,) = found["verdict"]["gates"]
    assert (gate["held"], gate["reason"]) == (False, "missing at south: withheld: < 5 test images")
    assert found["why"]["classification/balanced_accuracy"] == "no value at south (withheld: < 5 test images)"


def test_a_class_without_a_value_may_be_the_worst(root):
    partly = rows("synthetic", "vae")
    for r in (r for r in partly if r["site"] == "south" and r["use"] == "classification"):
        r["metrics"]["sensitivity.extra_axial"] = None
    judged(root, rows=partly)
    found = facts(PARAMS, root, "vae")
    assert found["worst"]["classification"]["class"]["unknown"] == ["extra_axial"]
    assert "worst class none (sensitivity 0.90) of those known, extra_axial withheld or missing" in worst(found)[0]


def test_a_metric_that_one_site_s_row_lacks_is_not_passed_over(root):
    partly = rows("synthetic", "vae")
    for r in (r for r in partly if r["site"] == "north"):
        del r["metrics"]["sensitivity" if r["use"] == "classification" else "dice"]
    judged(root, rows=partly)
    found = numbers(root)
    for name in ("classification/sensitivity", "segmentation/dice"):
        assert [found[f"{name}{at}"] for at in ("", "@north", "@worst_site")] == [None] * 3


def test_where_a_site_did_not_answer_every_gate_on_all_sites_is_missing_and_names_it(root):
    silent = {"south": "not connected"}
    given = rows("synthetic", "vae") + rows("augmented", "vae", {"north": 0.8, "south": 0.8})
    for r in (r for r in given if r["site"] == "south"):
        r |= {"metrics": dict.fromkeys(r["metrics"]), "n": {}, "left_out": "not connected"}
    judged(root, rows=given, left_out=silent)
    names = (
        "retained",
        "retained@worst_site",
        "gap_closed",
        "gap_closed_poorest",
        "balanced_accuracy",
        "ece@worst_site",
    )
    found = facts(
        tiny_params(gates={"require": [f"classification/{name} >= 0" for name in names], "warn": []}), root, "vae"
    )
    assert found["left_out"] == {"score": silent}
    for gate in found["verdict"]["gates"]:
        assert not gate["held"]
        assert gate["reason"].startswith("missing")
        assert "south" in gate["reason"], gate
        assert "did not answer: not connected" in gate["reason"], gate
    assert tables(found)["left_out"] == [
        "south did not answer the job of scoring (not connected): what rests on all sites is not computed"
    ]


GATES = {"require": ["classification/retained >= 0.8", "classification/balanced_accuracy@worst_site >= 0.65",
                     "classification/ece <= 0.3", "classification/retained@south >= 0.7"]}  # fmt: skip


def test_gates_hold_by_the_intervals_of_what_the_sites_sent(root):
    path = root / "reports" / "score" / "vae.json"
    score, names = json.loads(path.read_text()), ["local", "pooled", "synthetic", "augmented"]
    for r in score["rows"]:
        r["n"] = dict.fromkeys(r["metrics"], 50)

    def told(variance):
        of = {"use": "classification", "model": "vae", "metric": "balanced_accuracy", "names": names, "n": 50}
        matrix = [[variance * (a == b) for a in names] for b in names]
        path.write_text(
            json.dumps(score | {"spread": [of | {"site": s, "covariance": matrix} for s in ("north", "south")]})
        )
        return facts(tiny_params(gates=GATES), root, "vae")["verdict"]

    assert [g["held"] for g in told(1e-6)["gates"]] == [True] * 4
    found = told(0.002)
    assert [g["held"] for g in found["gates"]] == [False, False, True, False]
    assert [g["few"] for g in found["gates"]] == [True, True, False, True]
    assert found["said"] == "failed: 3 of 4, 3 of them for too few to tell"
    assert "there are 100" in found["gates"][0]["reason"], "test images of both sites"
    assert "at south" in found["gates"][1]["reason"]
    assert "there are 50" in found["gates"][3]["reason"]
    assert found["gates"][2]["by"] == "point", "a calibration error has no interval"


def test_in_a_federation_every_share_says_that_it_is_of_federated(root):
    path = root / "reports" / "reference.json"
    before, reference = facts(PARAMS, root, "vae")["reference_sha256"], json.loads(path.read_text())
    for r in (r for r in reference["rows"] if r["name"] == "pooled"):
        r["name"] = "federated"
    path.write_text(json.dumps(reference))
    found = facts(tiny_params(gates={"require": ["classification/retained >= 0.8 by point"]}), root, "vae")
    assert found["verdict"]["gates"][0]["reason"] == "0.833 of federated is at least 0.8"
    assert found["reference_sha256"] != before, "what was judged against pooled cannot be compared with it"
    shown = tables(found)
    assert shown["worth"][0]["retained"] == "83 % of federated"
    assert shown["worth"][0]["gap_closed"] == "67 % of the gap to federated"
    assert "FedAvg" in shown["against"]["federated"]


def test_floors_go_with_their_measures_and_sites(root):
    floors = facts(PARAMS, root, "vae")["floors"]
    assert (floors["fid"], floors["fid@south"], floors["membership_loss_auc"]) == (1.0, 0.5, None)


def test_what_is_missing_has_its_reason(root):
    judged(root, rows=rows("synthetic", "vae"))
    found = facts(PARAMS, root, "vae")
    assert found["numbers"]["classification/gap_closed"] is None
    assert found["why"]["classification/gap_closed"] == "no augmented at north, south"
    assert found["why"]["membership_loss_auc"] == MEASURES["membership_loss_auc"]["why"]
    assert (found["epsilon"], found["numbers"]["epsilon"]) == (None, None)
    assert found["why"]["epsilon"] == "no differential privacy was used, so there is no epsilon"


def test_a_use_that_was_not_scored_is_missing_and_not_absent(root):
    judged(root, rows=[])
    found = numbers(root)
    assert "classification/retained" in found
    assert found["classification/retained"] is None


@pytest.mark.parametrize("told", [{}, {"total": None}])
def test_what_all_trainings_spent_is_missing_where_a_site_does_not_say(root, told):
    judged(root, rows=rows("synthetic", "vae"))
    path = root / "models" / "vae" / "model.json"
    spent = {"epsilon": 3.5, "delta": 1e-5, "unit": "subject"} | told
    path.write_text(json.dumps(json.loads(path.read_text()) | {"epsilon": spent}))
    (gate,) = facts(tiny_params(gates={"require": ["epsilon_total <= 8"]}), root, "vae")["verdict"]["gates"]
    assert (gate["held"], gate["reason"]) == (False, "missing: not computed")


def test_nobody_is_warned_of_an_epsilon_that_was_not_asked_for(root):
    judged(root, rows=rows("synthetic", "vae"))
    asked = ["epsilon <= 8", "fid <= 1", "epsilon_total <= 8"]
    found = facts(tiny_params(gates={"warn": asked}), root, "vae")["verdict"]["gates"]
    assert [gate["gate"] for gate in found] == ["fid <= 1"]
    found = facts(tiny_params(gates={"require": asked}), root, "vae")["verdict"]["gates"]
    assert [gate["gate"] for gate in found] == asked
    path = root / "models" / "vae" / "model.json"
    spent = {"epsilon": 3.5, "total": 3.5, "delta": 1e-5, "unit": "subject", "relation": "add_remove"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"epsilon": spent}))
    found = facts(tiny_params(gates={"warn": asked}), root, "vae")["verdict"]["gates"]
    assert [gate["gate"] for gate in found] == asked


@pytest.mark.parametrize("unit", ["image", "subject"])
def test_epsilon_is_what_the_training_says_it_spent_and_a_gate_says_for_what(root, unit):
    judged(root, rows=rows("synthetic", "vae"))
    path = root / "models" / "vae" / "model.json"
    spent = {"epsilon": 3.5, "total": 9.5, "delta": 1e-5, "unit": unit, "relation": "add_remove"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"epsilon": spent}))
    found = facts(tiny_params(gates={"require": ["epsilon <= 8", "epsilon_total <= 8"]}), root, "vae")
    assert found["verdict"]["gates"][0]["reason"] == f"3.5 for one {unit} more or less is at most 8"
    assert found["verdict"]["gates"][1]["reason"] == "9.5 for one subject more or less is above 8"
    assert (found["epsilon"], found["numbers"]["epsilon"]) == (spent, 3.5)
    assert found["numbers"]["epsilon_total"] == 9.5
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
