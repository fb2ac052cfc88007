"""What `fedsynth plan` says: which stages would run and why, from dvc.lock,
DVC's cache and the inputs as they are now.
"""

from __future__ import annotations

import copy
import json

import pytest
import yaml

from fedsynth.params import Params
from fedsynth.settings import Settings
from fedsynth.stages import estimate, plan, plan_text
from tests.stages.test_inputs import EVERY, RAW, STAGES, Study, downstream
from tests.test_architecture import ROOT


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    made = Study(tmp_path_factory.mktemp("study"))
    made.repro(RAW)
    return made


def planned(study: Study, raw: dict) -> dict[str, list[str]]:
    """Stage -> its reasons, of those that would run; the stub's source.json is taken as it lies there."""
    lines = plan.plan(study.folder, Params.model_validate(raw), Settings.read()).lines
    return {line.stage: line.why for line in lines if line.runs}


@pytest.fixture(autouse=True)
def same_source(monkeypatch):
    monkeypatch.setattr(plan, "_source", lambda *_: None)
    for name in ("FEDSYNTH_FEDERATION", "FEDSYNTH_ROOT"):
        monkeypatch.delenv(name, raising=False)


def test_nothing_would_run_where_nothing_has_changed(study):
    assert planned(study, RAW) == {}


def test_the_key_and_both_values_are_the_reason_and_what_follows_says_from_what(study):
    raw = copy.deepcopy(RAW)
    raw["models"]["vae"]["training"]["lr"] = 0.001
    found = planned(study, raw)
    assert found["train@vae"] == ["models.vae.training.lr: 0.002 → 0.001"]
    assert found["sample@vae"] == ["follows from train@vae"]
    assert set(found) == downstream({"train@vae", "report"})


def test_another_federation_is_said(study, monkeypatch):
    monkeypatch.setenv("FEDSYNTH_FEDERATION", "poc")
    assert planned(study, RAW)["validate"] == ["ran over simulator, not poc"]


def test_an_output_that_is_gone_is_said(study):
    path = study.folder / "reports" / "verdict.json"
    path.rename(path.with_suffix(".away"))
    try:
        assert planned(study, RAW) == {"report": ["reports/verdict.json is not there"]}
    finally:
        path.with_suffix(".away").rename(path)


def test_files_of_the_source_that_have_changed_are_said(study, monkeypatch):
    monkeypatch.setattr(plan, "_source", lambda *_: "{another}")
    found = planned(study, RAW)
    assert found["ingest"] == ["the source's files have changed"]
    assert set(found) == EVERY


def test_where_nothing_has_run_every_stage_would(tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    lines = plan.plan(tmp_path, Params.model_validate(RAW), Settings.read()).lines
    assert {line.stage: line.why for line in lines} == {stage: ["has not run yet"] for stage in EVERY}


def test_code_that_has_changed_is_named():
    of = {"params": {}, "where": "simulator"}
    before, now = of | {"code": {"a": "1", "b": "1", "c": "1"}}, of | {"code": {"a": "2", "b": "2", "d": "1", "c": "1"}}
    assert plan.differences(before, now) == ["code: a, b, d"]


def test_two_stages_run_beside_each_other():
    lines = [plan.Line(name, ["x"], 10.0) for name in ("a", "b", "c", "d")]
    assert plan.Plan(lines, {"a": [], "b": [], "c": ["a", "b"], "d": []}).seconds() == 20
    assert plan.Plan(lines, {"a": [], "b": ["a"], "c": ["b"], "d": ["c"]}).seconds() == 40
    assert plan.Plan([*lines, plan.Line("e", ["x"])], {name: [] for name in "abcde"}).seconds() is None


def test_what_ran_before_takes_as_long_again(tmp_path):
    plan.keep_time(tmp_path, "train@vae", 12.34)
    plan.keep_time(tmp_path, "report", 3.0)
    assert plan.times_of(tmp_path) == {"train@vae": 12.3, "report": 3.0}


def test_a_first_run_is_estimated_from_steps_that_are_measured(tmp_path):
    raw = copy.deepcopy(RAW)
    raw["models"] = {"vae": raw["models"]["vae"]}
    params = Params.model_validate(raw)
    images = estimate.images_of(tmp_path, params)
    assert images["south"] == (48, 19)
    found = estimate.seconds(params, images)
    assert found.keys() == {s.address for s in STAGES if "@" not in s.address or s.address.endswith("@vae")}
    assert all(seconds > 0 for seconds in found.values())
    raw["models"]["vae"]["training"]["rounds"] *= 4
    assert estimate.seconds(Params.model_validate(raw), images)["train@vae"] > 1.5 * found["train@vae"]
    assert estimate.disk(params, images) > 4 * 3 * 32 * 32 * (928 + 300)


def test_the_words_and_the_json_say_the_same(study, monkeypatch):
    params, settings = Params.model_validate(RAW), Settings.read()
    assert "Nothing is to be done" in plan_text.words(study.folder, params, settings)
    told = json.loads(plan_text.as_json(study.folder, params, settings))
    assert not any(stage["runs"] for stage in told["stages"])
    (study.folder / "dvc.lock").write_text(yaml.safe_dump({"stages": {}}))
    for stage in EVERY:
        plan.keep_time(study.folder, stage, 60.0)
    text = plan_text.words(study.folder, params, settings)
    assert "16 of 16 stages would run, for about" in text
    assert "train@vae" in text
    assert "has not run yet" in text
