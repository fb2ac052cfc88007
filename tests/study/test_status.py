"""`fedsynth status` as text; the values behind it are those of the run's record, the plan and the registry."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import yaml
from typer.testing import CliRunner

import fedsynth
from fedsynth.__main__ import app
from fedsynth.errors import UserError
from fedsynth.stages import last_run
from fedsynth.study.status_text import words
from tests.sets import TINY

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
RUN = {
    "outcome": "completed", "said": "", "began": "2026-05-04T11:00:00+00:00", "ended": "2026-05-04T11:50:00+00:00",
    "succeeded": "2026-05-04T11:50:00+00:00", "experiment": "", "running": [], "waiting": [], "rounds": {},
    "sites": ["east", "north"], "left_out": {},
}  # fmt: skip
TOLD = {
    "study": "mine", "folder": "/studies/mine", "fedsynth": {"installed": "0.2.0", "made_by": "0.2.0"},
    "federation": "simulator", "run": RUN, "stale": {},
    "models": {"vae": {"newest": 4, "champion": 2, "gates": "all 6 gates hold", "stale": "", "by_hand": ""}},
    "disk": {"data": 12_300_000, "DVC's cache": 1_500_000_000, "MLflow": 0},
}  # fmt: skip


def said(**other) -> str:
    return words(TOLD | other, NOW)


def test_all_is_well():
    assert said().splitlines() == [
        "study     mine in /studies/mine, over simulator",
        "run       completed 10 min 0 s ago",
        "sites     answered in the last round: east, north",
        "stale     nothing: a run would do nothing",
        "models    vae: champion is version 2; newest version 4: all 6 gates hold",
        "disk      1.5 GB: data 12.3 MB, DVC's cache 1.5 GB",
    ]


def test_a_run_that_goes_on_says_where_it_is():
    going = {"outcome": "running", "ended": None, "running": ["train@vae"], "rounds": {"train@vae": [3, 10]}}
    text = said(run=RUN | going | {"waiting": ["sample@vae"], "experiment": "quick"})
    assert "going on, began 1 h 0 min ago, the experiment quick" in text
    assert "train@vae, round 3 of 10" in text
    assert "then sample@vae" in text


def test_a_run_that_failed_says_why_and_when_it_last_went_well():
    failed = {"outcome": "failed", "said": "train@vae: north did not answer", "succeeded": "2026-05-01T11:50:00+00:00"}
    text = said(run=RUN | failed | {"left_out": {"north": "no answer"}})
    assert "failed 10 min 0 s ago" in text
    assert "north did not answer" in text
    assert "the last one without a failure ended 3 days ago" in text
    assert "north was left out: no answer" in text


def test_what_is_stale_and_an_older_version_are_said():
    text = said(stale={"ingest": ["source.json changed"], "report": ["x"]}, fedsynth={"installed": "2", "made_by": "1"})
    assert "2 stages would run" in text
    assert "ingest: source.json changed" in text
    assert "`fedsynth upgrade`" in text


def test_a_registry_that_does_not_answer_hides_nothing_else():
    text = said(models={"error": "connection refused"})
    assert "not known, the registry does not answer: connection refused" in text
    assert "run       completed" in text


def test_a_source_that_is_not_there_hides_nothing_else(tmp_path, monkeypatch):
    monkeypatch.delenv("FEDSYNTH_BUSI", raising=False)
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(app, ["init", "mine", "--example", "busi"])
    monkeypatch.chdir(tmp_path / "mine")
    done = CliRunner().invoke(app, ["status"])
    assert done.exit_code == 0
    assert "stale     not known: source.args.folder '${FEDSYNTH_BUSI}'" in done.output
    assert "run       none yet" in done.output


def test_a_study_before_its_first_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDSYNTH_ROOT", raising=False)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    (tmp_path / "dvc.yaml").write_text((Path(__file__).parents[2] / "dvc.yaml").read_text())
    done = CliRunner().invoke(app, ["status"])
    assert done.exit_code == 0
    assert "run       none yet" in done.output
    assert "none is registered yet" in done.output
    told = json.loads(CliRunner().invoke(app, ["status", "--json"]).output)
    assert (told["run"], told["models"]) == (None, {})
    assert "validate" in told["stale"]


def test_a_run_whose_process_is_gone_has_crashed(tmp_path):
    record = dict.fromkeys(("ended", "succeeded"), None) | {"outcome": "running", "pid": 2**22 + 1, "began": 1.0}
    last_run.write(tmp_path, record)
    assert last_run.read(tmp_path)["outcome"] == last_run.CRASHED


def test_a_second_run_in_the_same_place_is_refused_and_an_experiment_is_not(tmp_path):
    last_run.alone(tmp_path)
    other = psutil.Process(os.getppid())
    record = {"outcome": "running", "pid": other.pid, "began": other.create_time(), "experiment": ""}
    last_run.write(tmp_path, record)
    with pytest.raises(UserError, match=f"a run is going on in {tmp_path} \\(process {other.pid}\\)"):
        last_run.alone(tmp_path)
    last_run.alone(tmp_path, "vae-rounds-20")
    last_run.write(tmp_path, record | {"experiment": "vae-rounds-20"})
    last_run.alone(tmp_path)
    with pytest.raises(UserError, match="the experiment vae-rounds-20 is going on"):
        last_run.alone(tmp_path, "vae-rounds-20")
    last_run.write(tmp_path, record | {"outcome": "completed"})
    last_run.alone(tmp_path)


@pytest.mark.parametrize("word", ["status", "clean", "promote", "rollback", "answer", "init", "upgrade", "examples"])
def test_each_command_has_help(word):
    assert CliRunner().invoke(app, [word, "--help"]).exit_code == 0


def test_the_same_in_python(tmp_path, monkeypatch):
    monkeypatch.delenv("FEDSYNTH_ROOT", raising=False)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    (tmp_path / "dvc.yaml").write_text((Path(__file__).parents[2] / "dvc.yaml").read_text())
    assert fedsynth.status(tmp_path)["folder"] == str(tmp_path.resolve())
    with pytest.raises(UserError, match="exit code 1"):
        fedsynth.run(tmp_path, models="no_such_model")
    for verb in (fedsynth.run, fedsynth.status):
        with pytest.raises(UserError, match="nowhere is not there"):
            verb(tmp_path / "nowhere")
