"""What a data-protection officer types: policy init, show, pause, resume, and audit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from fedsynth.__main__ import app
from fedsynth.hospital.policy import Gate, PolicyError, Question, load
from tests.sets import TINY, make_set, tiny_params


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """The working directory of a hospital: the agreed params.yaml, and a folder for the state."""
    for name in ("FEDSYNTH_ROOT", "FEDSYNTH_DATA", "FEDSYNTH_FEDERATION", "FEDSYNTH_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDSYNTH_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    return tmp_path


def said(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == code, done.output + str(done.exception)
    return done.output


def test_a_policy_is_made_shown_paused_and_resumed(site):
    text = said("policy", "init", "--site", "north", "--submitter", "lead@centre.org")
    assert "the agreed params.yaml with the models vae" in text
    assert "only lead@centre.org" in text
    assert "jobs are let in" in said("policy", "show")
    assert "refused" in said("policy", "pause", "we look into it")
    assert "PAUSED, all jobs are refused: we look into it" in said("policy", "show")
    assert "let in again" in said("policy", "resume")
    assert "were not paused" in said("policy", "resume")


def test_where_images_come_from_is_not_in_the_policy(site):
    said("policy", "init", "--site", "north")
    assert load(site / "state/north/policy.yaml")[0].studies["study"].params["source"]["args"] == {}


def test_a_policy_that_is_there_is_not_written_over_by_mistake(site):
    said("policy", "init", "--site", "north")
    done = CliRunner().invoke(app, ["policy", "init", "--site", "north"])
    assert "is there already" in str(done.exception)
    said("policy", "init", "--site", "north", "--force", "--epsilon", "8")
    found = load(site / "state/north/policy.yaml")[0]
    assert (found.privacy.require, found.privacy.epsilon) == ("dp", 8)


def test_a_second_study_and_a_new_params_yaml_leave_the_hospitals_own_rules_as_they_are(site):
    said("policy", "init", "--site", "north", "--submitter", "lead@centre.org")
    path = site / "state/north/policy.yaml"
    path.write_text(path.read_text().replace("images: 20", "images: 33").replace("- gates\n", ""))
    (site / "other.yaml").write_text(yaml.safe_dump(TINY | {"seed": 7}, sort_keys=False))
    assert "other: the agreed params.yaml" in said("policy", "init", "other.yaml", "--study", "other")
    assert "only lead@centre.org" in said("policy", "init", "other.yaml", "--force", "--epsilon", "8")
    found = load(path)[0]
    assert {name: study.params["seed"] for name, study in found.studies.items()} == {"study": 7, "other": 7}
    assert ("gates" in found.studies["study"].may_differ, "gates" in found.studies["other"].may_differ) == (False, True)
    assert (found.floors.images, found.privacy.epsilon) == (33, 8)


def test_one_study_is_paused_and_resumed(site):
    said("policy", "init", "--site", "north")
    said("policy", "init", "--site", "north", "--study", "other")
    assert "jobs of the study other are refused" in said("policy", "pause", "no consent", "--study", "other")
    text = said("policy", "show")
    assert "PAUSED, jobs of the study other are refused: no consent" in text
    assert "jobs are let in" in text
    assert "let in again" in said("policy", "resume", "--study", "other")
    done = CliRunner().invoke(app, ["policy", "pause", "--study", "othr"])
    assert "did you mean 'other'?" in str(done.exception)


def test_the_environment_names_the_file_and_no_site_is_needed(site, monkeypatch):
    monkeypatch.setenv("FEDSYNTH_POLICY", str(site / "own.yaml"))
    assert str(site / "own.yaml") in said("policy", "init")


@pytest.mark.parametrize("words", [("policy", "show"), ("policy", "pause"), ("audit",)])
def test_where_several_sites_are_one_must_be_named(site, words):
    for name in ("north", "east"):
        said("policy", "init", "--site", name)
    assert "east, north" in str(CliRunner().invoke(app, list(words)).exception)


@pytest.fixture
def recorded(site) -> Path:
    said("policy", "init", "--site", "north")
    rows = make_set(site / "set", tiny_params(), n=60).manifest
    folder, params = site / "state/north", tiny_params().model_dump(mode="json")
    config = {"params": params | {"source": {"class_path": params["source"]["class_path"], "args": {}}, "models": {}}}
    model = params["models"]["vae"]

    def gate() -> Gate:
        return Gate(folder, folder / "policy.yaml", "train", {"id": "j1", "submitter": "lead", "name": "vae"})

    made = gate()
    made.admit(Question("train", config | {"name": "vae", "model": model}, "lead", rows), "d")
    made.sent({"w": np.ones(1000, np.float32)}, {"steps": 3.0}, round=0, epsilon=None)
    other = config | {"name": "vae", "model": model | {"training": model["training"] | {"epochs": 0.1}}}
    with pytest.raises(PolicyError, match="epochs"):
        gate().admit(Question("train", other, "", rows), "d")
    return folder


def test_the_audit_is_a_table_a_page_and_lines_for_programs(recorded, site):
    text = said("audit", "--page", "audit.html")
    assert "asked" in text
    assert "1 arrays of 1000 numbers" in text
    assert "studies.study.params.models.vae.training.epochs" in text
    page = (site / "audit.html").read_text()
    assert "What has left north" in page
    assert "4.0 KB" in page
    lines = [json.loads(line) for line in said("audit", "--json").splitlines()]
    assert [line["what"] for line in lines] == ["asked", "sent", "refused"]
    assert lines[1]["bytes"] == 4000
    assert said("audit", "--days", "1", "--json").count("\n") == 3


def test_a_record_that_was_changed_is_no_audit(recorded):
    path = recorded / "record.jsonl"
    path.write_text(path.read_text().replace("4000", "40"))
    assert "does not follow" in str(CliRunner().invoke(app, ["audit"]).exception)


def test_nothing_yet_is_said(site):
    said("policy", "init", "--site", "north")
    assert "nothing has been asked of this hospital yet" in said("audit")
