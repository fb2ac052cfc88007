"""What the centre writes down of the sites' rows: every metric of every site that was asked, also of one that did not
answer.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedsynth.data import outputs
from fedsynth.settings import Settings
from fedsynth.worth import worth
from nvflare_jobs.centre import build_question, build_rounds, jobs, program, rows
from nvflare_jobs.reference import job as reference
from nvflare_jobs.validate import job as validate
from tests.sets import tiny_params

USES = {"c": {"class_path": "fedsynth.uses.classification.Classification"}}
PARAMS = tiny_params(score={"uses": USES})


def settings(root: Path) -> Settings:
    return Settings("simulator", root, root / "data", root / "state", 60, False)


COUNTS = {label: {"train": 20, "val": 8, "test": 14} for label in PARAMS.image.labels}
SENT = {"net/pooled/c/1/x": None}  # the networks of a question, by their names


def row(name: str, site: str, value: float | None, **metrics: float) -> dict:
    found = {"balanced_accuracy": value, "auroc": 0.9} | metrics
    return {
        "use": "c",
        "name": name,
        "trained_on": site if name == "local" else "all",
        "model": "",
        "site": site,
        "seed": 1,
        "metrics": found,
        "n": dict.fromkeys(found, 40),
    }


def test_a_site_that_did_not_answer_has_the_rows_of_the_others_without_a_value():
    found = rows.complete(
        [[row("local", "north", 0.8), row("pooled", "north", 0.9)]],
        {"south": "not connected"},
        {"c": "balanced_accuracy"},
    )
    nothing = {"balanced_accuracy": None, "auroc": None}
    assert [(r["name"], r["site"], r["trained_on"]) for r in found] == [
        ("local", "north", "north"),
        ("pooled", "north", "all"),
        ("local", "south", "south"),
        ("pooled", "south", "all"),
    ]
    assert all((r["metrics"], r["n"], r["left_out"]) == (nothing, {}, "not connected") for r in found[2:])
    assert not any("left_out" in r for r in found[:2])
    assert worth.table(found).query("site == 'south'")["why"].unique().tolist() == ["did not answer: not connected"]


def test_a_metric_that_one_site_withheld_is_none_and_the_headline_stays_first():
    withheld = row("local", "south", 0.5)
    withheld["metrics"], withheld["n"] = {"auroc": None}, {"auroc": "< 5"}
    found = rows.complete([[withheld], [row("local", "north", 0.8, ece=0.1)]], {}, {"c": "balanced_accuracy"})
    assert list(found[0]["metrics"].items()) == [("balanced_accuracy", None), ("auroc", None), ("ece", None)]
    assert worth.headline(found, "c") == "balanced_accuracy"


def test_the_file_says_who_did_not_answer_and_has_its_rows(tmp_path, monkeypatch):
    sites = {"north": {"digest": "a", "counts": COUNTS}, "south": {"digest": "b", "counts": COUNTS}}
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "validation.json").write_text(json.dumps({"used": list(sites), "sites": sites}))
    monkeypatch.setattr(build_question, "ask", lambda *_, **__: tmp_path)
    said = {
        "north": {"answer": {"rows": [row("local", "north", 0.8)], "seconds": 1.0}},
        "south": {"failed": "not connected"},
    }
    monkeypatch.setattr(jobs, "ask", lambda *_: said)
    one_is_enough = PARAMS.model_copy(update={"consortium": PARAMS.consortium.model_copy(update={"quorum": 1})})
    rows.rows(one_is_enough, settings(tmp_path), "reference", "", {}, {}, 0.0, lambda found: {"asked": list(found)})
    found = json.loads((tmp_path / "reports" / "reference.json").read_text())
    assert found["asked"] == ["north", "south"]
    assert found["left_out"] == {"south": "not connected"}
    assert [(r["site"], r["metrics"]["balanced_accuracy"]) for r in found["rows"]] == [("north", 0.8), ("south", None)]


def test_the_federated_reference_says_which_site_missed_which_of_its_rounds(tmp_path, monkeypatch):
    rounds = [{"round": 0, "sites": {}}, {"round": 1, "sites": {}, "left_out": {"south": "not connected"}}]
    (tmp_path / "rounds.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rounds))
    monkeypatch.setattr(build_rounds, "train", lambda *_, **__: tmp_path)
    monkeypatch.setattr(jobs, "run", lambda *_: jobs.Result(tmp_path, "job"))
    monkeypatch.setattr(reference.weights, "load", lambda _: {})
    validation = {"used": ["north"], "sites": {"north": {"digest": "a"}}}
    assert reference.federated(PARAMS, settings(tmp_path), validation) == (
        {},
        {"south": "1 of 2 rounds (2): not connected"},
    )


def test_a_site_that_tests_only_has_rows_of_no_own_networks_that_say_so():
    north = [row("local", "north", 0.8), row("pooled", "north", 0.9)]
    found = rows.complete(
        [[row("pooled", "west", 0.7)], north], {"south": "gone", "east": "gone"}, {"c": "b"}, ["west", "east"]
    )
    assert [(r["name"], r["site"]) for r in found if r.get("tests_only")] == [("local", "west"), ("local", "east")]
    missed = [(r["name"], r["site"]) for r in found if r.get("left_out")]
    assert sorted(missed) == [("local", "south"), ("pooled", "east"), ("pooled", "south")]
    table = worth.table(found).set_index(["metric", "name", "site"])["why"]
    assert table["auroc", "local", "west"] == worth.TESTS_ONLY


ROLES = tiny_params(score={"uses": USES}, split={"train_only": ["west"], "test_only": ["south"]})


def verdict(passed: bool = True) -> dict:
    return {"passed": passed, "digest": "d", "images": 9, "failed": [], "warnings": [], "counts": {}}


def test_who_trains_and_who_tests_is_decided_with_who_takes_part(tmp_path):
    sites = dict.fromkeys(("north", "east", "west", "south"), verdict())
    assert validate.decide(ROLES, sites, settings(tmp_path)) == list(sites)
    with pytest.raises(program.StageError, match=r"only 1 of the sites that passed train models.*split.test_only"):
        validate.decide(ROLES, {site: sites[site] for site in ("north", "south")}, settings(tmp_path))
    only_training = tiny_params(split={"train_only": ["west", "north"]})
    with pytest.raises(program.StageError, match="no site that passed tests models"):
        validate.decide(only_training, {site: sites[site] for site in ("north", "west")}, settings(tmp_path))


def test_changed_floors_of_the_sites_that_take_part_are_kept_with_their_verdicts(tmp_path, monkeypatch, capsys):
    """So that trainings are asked again when they change."""
    made, (first, second) = tiny_params(consortium={"sites": ["north", "south"]}), ("north", "south")
    monkeypatch.setattr(jobs, "ask", lambda *_: {site: {"answer": verdict()} for site in (first, second)})
    monkeypatch.setattr(validate, "held", lambda _, answers, __: answers)
    outputs.write(
        tmp_path / "data" / "source.json", {"floors": {site: {"subjects": [3, 5]} for site in (first, "gone")}}
    )
    validate.stage(made, settings(tmp_path))
    assert json.loads((tmp_path / "reports/validation.json").read_text())["floors"] == {first: {"subjects": [3, 5]}}
    assert "floors.subjects is 3, not 5" in capsys.readouterr().out
    outputs.write(tmp_path / "data" / "source.json", {})
    validate.stage(made, settings(tmp_path))
    assert "floors" not in json.loads((tmp_path / "reports/validation.json").read_text())


def test_the_sites_that_train_are_those_of_a_training_and_the_others_are_asked_to_test(tmp_path, monkeypatch):
    sites = {site: {"digest": "a", "counts": COUNTS} for site in ("north", "west", "south")}
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "validation.json").write_text(json.dumps({"used": list(sites), "sites": sites}))
    assert program.validated_for_training(ROLES, tmp_path)["used"] == ["north", "west"]
    asked = []
    monkeypatch.setattr(build_question, "ask", lambda *a, **__: asked.append(a[3]) or tmp_path)
    said = {
        "north": {"answer": {"rows": [row("local", "north", 0.8), row("pooled", "north", 0.8)], "seconds": 1.0}},
        "south": {"answer": {"rows": [row("pooled", "south", 0.8)], "seconds": 1.0}},
    }
    monkeypatch.setattr(jobs, "ask", lambda *_: said)
    rows.rows(ROLES, settings(tmp_path), "reference", "", SENT, {}, 0.0, lambda _: {})
    assert asked == [["north", "south"]]
