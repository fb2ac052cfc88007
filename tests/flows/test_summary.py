"""Whether anything must run, and the summary that is kept for a run in which nothing must."""

from __future__ import annotations

import json

import pytest

from fedsynth.settings import Settings
from fedsynth.stages import inputs, last_run, outside
from fedsynth.worth import missing
from flows import dvcx, summary
from tests.sets import tiny_params
from tests.worth.test_worth import POOLED, consortium

PARAMS = tiny_params()


class Project:
    """A project in which nothing must run, and how often its registry was asked."""

    def __init__(self, root, monkeypatch):
        from fedsynth.registry import by_hand, stale, tracking
        from fedsynth.worth import worth

        self.root, self.asked, self.registered, self.texts = root, 0, True, {}
        (root / "reports").mkdir()
        (root / "reports/verdict.json").write_text(json.dumps({"vae": {"said": "may be promoted", "gates": []}}))
        (root / "dvc.lock").write_text("stages: {}\n")
        (root / "mlflow.db").write_text("versions")
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        monkeypatch.setattr(worth, "rows", lambda *_: consortium(augmented=POOLED))
        monkeypatch.setattr(tracking, "registered", self.ask)
        monkeypatch.setattr(stale, "lines", lambda *_: [])
        monkeypatch.setattr(by_hand, "lines", lambda *_: [])
        monkeypatch.setattr(inputs, "texts", lambda *_: {})
        monkeypatch.setattr(inputs, "checked", lambda *_: None)
        monkeypatch.setattr(outside, "texts", lambda *_: self.texts)
        monkeypatch.setattr(dvcx, "status", lambda *_: (set(), {"source"}))

    def ask(self, *_):
        self.asked += 1
        return self.registered

    def run(self):
        return summary.summary(self.root, PARAMS)

    def unchanged(self):
        self.asked = 0
        return summary.unchanged(self.root, PARAMS, Settings.read())


@pytest.fixture
def project(tmp_path, monkeypatch):
    return Project(tmp_path, monkeypatch)


def test_what_a_run_has_kept_is_shown_again_without_asking_the_registry(project, capsys):
    summary.show(project.run())
    first = capsys.readouterr().out
    assert "gained   With vae's images south reaches balanced accuracy 0.900" in first
    summary.show(project.unchanged())
    assert capsys.readouterr().out == first
    assert project.asked == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [("mlflow.db", "another version"), ("mlflow.db-wal", "a version"), ("dvc.lock", "stages: {report: {}}\n")],
)
def test_a_change_of_the_registry_or_of_what_stages_made_is_seen(project, name, content):
    project.run()
    (project.root / name).write_text(content)
    assert project.unchanged() is not None
    assert project.asked > 0
    assert project.unchanged() is not None
    assert project.asked == 0, "what was found is kept again"
    project.registered = False
    (project.root / name).write_text(f"{content} and more")
    assert project.unchanged() is None, "a version is missing"


def test_a_registry_that_is_gone_is_seen(project):
    project.run()
    project.registered = False
    (project.root / "mlflow.db").unlink()
    assert project.unchanged() is None


def test_a_server_is_asked_each_time(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    project.run()
    assert project.unchanged() is not None
    assert project.asked > 0


def test_an_alias_that_was_changed_by_hand_is_said(project, monkeypatch):
    from fedsynth.registry import by_hand

    monkeypatch.setattr(by_hand, "lines", lambda *_: ["fedsynth-vae: version 2 is the champion, and somebody"])
    assert "alias    fedsynth-vae: version 2 is the champion, and somebody" in project.run()["lines"]


def test_where_runs_are_seen_is_a_command_with_few_processes_or_the_servers_address(project, monkeypatch):
    (line,) = [line for line in project.run()["lines"] if line.startswith("runs ")]
    assert "MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false " in line
    assert line.endswith(
        f"mlflow ui --workers 1 --host 127.0.0.1 --backend-store-uri sqlite:///{project.root}/mlflow.db"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:secret@127.0.0.1:5000")
    assert "runs     http://ada:***@127.0.0.1:5000" in project.run()["lines"]


def test_another_name_of_the_study_is_seen(project):
    project.run()
    (project.root / "params.yaml").write_text("study: busi\n")
    project.registered = False
    assert project.unchanged() is None, "nothing is registered under that name"


def test_other_code_makes_the_summary_anew(project, monkeypatch):
    project.run()
    monkeypatch.setattr(summary.code, "digests", lambda *_: {"fedsynth.worth.gained": "another"})
    project.unchanged()
    assert project.asked > 0


def test_what_lacks_a_version_or_an_answer_of_the_registry_is_not_kept(project, monkeypatch):
    from fedsynth.registry import stale

    project.registered = False
    project.run()
    assert not (project.root / summary.KEPT).exists()
    project.registered = True
    monkeypatch.setattr(stale, "lines", lambda *_: 1 / 0)
    assert "stale    not known, the registry does not answer: division by zero" in project.run()["lines"]
    assert not (project.root / summary.KEPT).exists()


def test_where_inputs_files_outside_or_a_stage_have_changed_something_must_run(project, monkeypatch):
    project.run()
    monkeypatch.setattr(dvcx, "status", lambda *_: ({"report"}, {"source"}))
    assert project.unchanged() is None
    monkeypatch.setattr(dvcx, "status", lambda *_: (set(), {"source"}))
    assert project.unchanged() is not None
    project.texts = {outside.GIVEN: "another"}
    assert project.unchanged() is None


def test_in_a_federation_the_sites_are_asked_whether_their_data_have_changed(project, monkeypatch, tmp_path):
    monkeypatch.setenv("FEDSYNTH_FEDERATION", "production")
    monkeypatch.setenv("FEDSYNTH_KIT", str(tmp_path))
    project.run()
    ran, stale = [], set()
    monkeypatch.setattr(dvcx.Runner, "repro", lambda self, stage, on_line: ran.append(stage) or stale.add("validate"))
    assert project.unchanged() is not None
    assert ran == ["source"]
    monkeypatch.setattr(dvcx, "status", lambda *_: (set(stale), {"source"}))
    stale.clear()
    assert project.unchanged() is None, "a site's answer has changed"
    assert ran == ["source", "source"]


def test_a_model_without_results_is_in_no_table_says_why_once_and_the_summary_is_not_kept(project, monkeypatch):
    from fedsynth.worth import worth

    asked: list[str] = []
    monkeypatch.setattr(worth, "rows", lambda root, models: asked.extend(models) or consortium(augmented=POOLED))
    missing.write(project.root, {name: {"stage": f"train@{name}", "why": "no"} for name in PARAMS.models})
    gates = [{"gate": g, "kind": "require", "held": False, "reason": "missing: train@vae failed"} for g in ("a", "b")]
    said = "must not be promoted: train@vae failed: no"
    (project.root / "reports/verdict.json").write_text(json.dumps({"vae": {"said": said, "gates": gates}}))
    lines = project.run()["lines"]
    assert not asked
    assert f"gates    vae: {said}" in lines
    assert not [line for line in lines if "missing: train@vae failed" in line]
    assert not (project.root / summary.KEPT).exists()


@pytest.mark.parametrize(("state", "shown"), [("ran", True), ("unchanged", True), ("left", False), ("failed", False)])
def test_a_run_that_came_to_no_report_has_no_summary(project, monkeypatch, state, shown):
    monkeypatch.setattr(summary.checks, "load_or_list", lambda *_: PARAMS)
    last_run.write(project.root, {"outcome": "failed", "stages": {"report": {"state": state}}})
    assert (summary.of_run(project.root, project.root) is not None) is shown
