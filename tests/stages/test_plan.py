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
from fedsynth.stages import estimate, outside, plan, plan_text
from fedsynth.stages.inputs import DagError
from fedsynth.worth import withdrawn
from tests.stages.test_inputs import EVERY, MODELS, RAW, STAGES, Study, downstream
from tests.test_architecture import ROOT

LASTING = ["source", *(f"register@{model}" for model in MODELS)]  # the stages of every run


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    made = Study(tmp_path_factory.mktemp("study"))
    made.repro(RAW)
    return made


def planned(study: Study, raw: dict) -> dict[str, list[str]]:
    """Stage -> its reasons, of those that would run; the stub's source.json is taken as it lies there."""
    lines = plan.plan(study.folder, Params.model_validate(raw), Settings.read()).lines
    return {line.stage: line.why for line in lines if line.runs and not line.always}


@pytest.fixture(autouse=True)
def same_source(monkeypatch):
    monkeypatch.setattr(outside, "texts", lambda *_: {})
    for name in ("FEDSYNTH_FEDERATION", "FEDSYNTH_ROOT"):
        monkeypatch.delenv(name, raising=False)


def test_nothing_would_run_where_nothing_has_changed(study):
    assert planned(study, RAW) == {}


def test_the_key_and_both_values_are_the_reason_and_what_follows_says_from_what(study):
    raw = copy.deepcopy(RAW)
    raw["models"]["vae"]["training"]["lr"] = 0.001
    found = planned(study, raw)
    assert found["train@vae"] == ["models.vae.training.lr: 0.002 → 0.001"]
    assert found["sample@vae"] == ["because train@vae runs"]
    assert set(found) == downstream({"train@vae", "report"})


def test_what_a_training_begins_with_is_said(study):
    empty = {"params": {}, "code": {}}
    file, version = {"sha256": "a" * 64}, {"sha256": "b" * 64, "version": "3"}
    said = plan.differences(empty | {"start": {"none": "no version"}}, empty | {"start": version})
    assert said == ["begins with: the seed's weights → version 3"]
    assert plan.differences(empty | {"start": file}, empty) == [
        "begins with: a file of SHA-256 aaaaaaaaaaaa… → the seed's weights"
    ]
    assert plan.differences(empty | {"start": file}, empty | {"start": file}) == []


def test_another_federation_is_said(study, monkeypatch):
    monkeypatch.setenv("FEDSYNTH_FEDERATION", "poc")
    assert planned(study, RAW)["validate"] == ["FEDSYNTH_FEDERATION: simulator → poc"]


def test_an_output_that_is_gone_is_said(study):
    path = study.folder / "reports" / "verdict.json"
    path.rename(path.with_suffix(".away"))
    try:
        assert planned(study, RAW) == {"report": ["reports/verdict.json is missing"]}
    finally:
        path.with_suffix(".away").rename(path)


def test_the_stages_of_every_run_are_the_first_and_the_last(study):
    made = plan.plan(study.folder, Params.model_validate(RAW), Settings.read())
    assert [line.stage for line in made.lines if line.always] == LASTING
    assert [made.lines[0].stage, *(line.stage for line in made.lines[-len(MODELS) :])] == LASTING
    assert made.stale == []
    assert made.seconds() > 0


def test_files_of_the_source_that_have_changed_are_said(study, monkeypatch):
    monkeypatch.setattr(outside, "texts", lambda *_: {withdrawn.SOURCE: "{another}"})
    found = planned(study, RAW)
    assert found["ingest"] == ["the source's files have changed"]
    assert set(found) == EVERY - {"pretrain"}  # whose images are no hospital's


def test_where_nothing_has_run_every_stage_would(tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    lines = plan.plan(tmp_path, Params.model_validate(RAW), Settings.read()).lines
    assert {line.stage: line.why for line in lines if not line.always} == {
        stage: ["has not run yet"] for stage in EVERY
    }


def test_an_output_that_was_made_anew_since_is_seen_also_in_a_folder_of_them(study):
    raw = copy.deepcopy(RAW)
    raw["models"]["gan"]["training"]["lr"] = 0.003
    (study.folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    study.dvc("repro", "train@gan")
    found = planned(study, raw)
    assert found["sample@gan"] == ["models/gan has changed"]
    assert found["score@gan"] == ["models/gan has changed"]
    assert "models has changed" in found["report"] or found["report"][0].startswith("models.gan.training.lr")
    assert set(found) == {"sample@gan", "score@gan", "export@gan", "report"}
    study.repro(RAW)
    assert planned(study, RAW) == {}


def test_the_order_of_channels_is_a_reason(study):
    raw = copy.deepcopy(RAW)
    raw["image"]["channels"] = {name: raw["image"]["channels"][name] for name in ("t2", "t1", "lesion")}
    assert planned(study, raw)["ingest"] == ["another order of image.channels"]


def test_with_other_values_a_stage_takes_another_time(study):
    plan.keep_time(study.folder, "train@vae", 75.0)
    raw = copy.deepcopy(RAW)
    raw["models"]["vae"]["training"]["rounds"] = 200
    lines = plan.plan(study.folder, Params.model_validate(raw), Settings.read(), {"train@vae": 900.0}).lines
    line = next(line for line in lines if line.stage == "train@vae")
    assert (line.seconds, line.from_last_time) == (900.0, False)


@pytest.mark.parametrize(
    ("name", "text"), [("dvc.yaml", "stages: [}"), ("dvc.yaml", ""), ("dvc.lock", "<<<<<<< HEAD\n")]
)
def test_a_file_that_cannot_be_read_is_said(tmp_path, name, text):
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (tmp_path / name).write_text(text)
    with pytest.raises(DagError, match=f"{name} cannot be read"):
        plan.plan(tmp_path, Params.model_validate(RAW), Settings.read())


def test_in_a_federation_nothing_is_said_of_images_that_are_not_here(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSYNTH_FEDERATION", "production")
    monkeypatch.setenv("FEDSYNTH_KIT", str(tmp_path))
    assert estimate.images_of(tmp_path, Params.model_validate(RAW), Settings.read()) == {}


def of_table(folder, **args) -> Params:
    """The default study with a table of 40 images of two sites as its source, half with a split of their own."""
    rows = [f"{n}.png,,none,{'ab'[n % 2]},p{n},t1,{'train' if n < 20 else ''}" for n in range(40)]
    head = "image,mask,label,site,subject,modality,split"
    (folder / "manifest.csv").write_text("\n".join([head, *rows]), encoding="utf-8")
    block = {"class_path": "fedsynth.sources.table.Table", "args": {"folder": str(folder), **args}}
    image = RAW["image"] | {"channels": {"t1": "image"}, "labels": ["none"], "empty_labels": [], "scale": {}}
    split = {"val": 0.1, "test": 0.4}
    return Params.model_validate(RAW | {"source": block, "image": image, "split": split})


def test_before_ingest_the_images_are_those_that_the_source_lists(tmp_path):
    params = of_table(tmp_path)
    assert estimate.images_of(tmp_path, params, Settings.read()) == {"a": (20, 15), "b": (20, 15)}
    slices = of_table(tmp_path, slices={"axis": 0})
    assert estimate.images_of(tmp_path, slices, Settings.read()) == {}, "how many slices a volume has is not known"
    (tmp_path / "manifest.csv").unlink()
    assert estimate.images_of(tmp_path, params, Settings.read()) == {}, "the stage `source` says what is wrong"


def test_code_that_has_changed_is_named():
    of = {"params": {}, "where": "simulator"}
    before, now = of | {"code": {"a": "1", "b": "1", "c": "1"}}, of | {"code": {"a": "2", "b": "2", "d": "1", "c": "1"}}
    assert plan.differences(before, now) == ["the code has changed: a, b, d"]


def test_two_stages_run_beside_each_other():
    lines = [plan.Line(name, ["x"], 10.0) for name in ("a", "b", "c", "d")]
    assert plan.Plan(lines, {"a": [], "b": [], "c": ["a", "b"], "d": []}).seconds() == 20
    assert plan.Plan(lines, {"a": [], "b": ["a"], "c": ["b"], "d": ["c"]}).seconds() == 40
    assert plan.Plan([*lines, plan.Line("e", ["x"])], {name: [] for name in "abcde"}).seconds() is None


def test_of_a_run_that_has_begun_what_runs_and_what_waits_is_left():
    made = plan.Plan([plan.Line(name, ["x"], 10.0) for name in "abcd"], {"a": [], "b": [], "c": ["a"], "d": ["b"]})
    assert made.seconds({"a"}, {"b": 4.0}) == 14
    assert made.seconds({"a", "b", "c"}, {"d": 3.0}) == 3
    assert made.seconds({"a", "b"}, {"c": None}) is None
    assert made.seconds("abcd") == 0


def test_what_ran_before_takes_as_long_again(tmp_path):
    plan.keep_time(tmp_path, "train@vae", 12.34)
    plan.keep_time(tmp_path, "report", 3.0)
    assert plan.times_of(tmp_path) == {"train@vae": 12.3, "report": 3.0}


def test_a_first_run_is_estimated_from_steps_that_are_measured(tmp_path):
    raw = copy.deepcopy(RAW)
    raw["models"] = {"vae": raw["models"]["vae"]}
    params = Params.model_validate(raw)
    images = estimate.images_of(tmp_path, params, Settings.read())
    assert images["south"] == (270, 101)
    every = {s.address for s in STAGES if "@" not in s.address or s.address.endswith("@vae")}
    found = estimate.seconds(params, images, every)
    assert found.keys() == every
    assert all(seconds > 0 for seconds in found.values())
    raw["models"]["vae"]["training"]["rounds"] *= 4
    assert estimate.seconds(Params.model_validate(raw), images, {"train@vae"})["train@vae"] > 1.5 * found["train@vae"]
    raw["models"]["vae"]["privacy"] = {"class_path": "fedsynth.privacy.dpsgd.DPSGD", "args": {"epsilon": 8}}
    assert not estimate.seconds(Params.model_validate(raw), images, {"train@vae"}), "a private step is not measured"
    assert estimate.disk(params, images) > 4 * 3 * 32 * 32 * (928 + 300)


def test_reference_models_of_an_attack_count_in_the_score(monkeypatch):
    monkeypatch.setattr(estimate, "_use_seconds", lambda params: {"segmentation": 1.0})
    monkeypatch.setattr(estimate, "_model_seconds", lambda params, name: (2.0, 1.0))
    monkeypatch.setattr(estimate.os, "cpu_count", lambda: 1)
    raw = copy.deepcopy(RAW)
    images = {"north": (100, 60), "south": (50, 50)}  # of `south` none is held out

    def score():
        return estimate.seconds(Params.model_validate(raw), images, {"score@vae"})["score@vae"]

    without = score()
    raw["score"]["measures"]["membership"]["args"]["references"] = 4
    training = Params.model_validate(raw).models["vae"].training
    assert score() - without == pytest.approx(4 * training.steps(20) * training.rounds * 2.0)


def test_steps_are_timed_only_of_stages_that_have_not_run(study, monkeypatch):
    raw, asked = copy.deepcopy(RAW), []
    monkeypatch.setattr(estimate, "_use_seconds", lambda params: asked.append("uses") or {})
    monkeypatch.setattr(estimate, "_model_seconds", lambda params, name: asked.append(name) or (1.0, 1.0))
    for stage in EVERY:
        plan.keep_time(study.folder, stage, 60.0)

    def planned():
        params = Params.model_validate(raw)
        return estimate.planned(study.folder, params, Settings.read(), {"north": (10, 5)}).seconds()

    raw["gates"]["require"] = ["classification/retained >= 0.1"]
    assert planned() > 0
    assert asked == [], "neither export nor report trains"
    raw["models"]["vae"]["training"]["lr"] = 0.001
    assert planned() > 0
    assert asked == ["vae"]


def test_the_words_and_the_json_say_the_same(study, monkeypatch):
    params, settings = Params.model_validate(RAW), Settings.read()
    assert "All other stages are up to date" in plan_text.words(study.folder, params, settings)
    told = json.loads(plan_text.as_json(study.folder, params, settings))
    assert [stage["stage"] for stage in told["stages"] if stage["runs"]] == LASTING
    (study.folder / "dvc.lock").write_text("stages: {}\n")
    for stage in EVERY:
        plan.keep_time(study.folder, stage, 60.0)
    text = plan_text.words(study.folder, params, settings)
    assert "21 of 21 stages would run, at most 2 at the same time: in about" in text
    assert "train@vae" in text
    assert "has not run yet" in text
