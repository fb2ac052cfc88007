"""The jobs that a study has submitted are kept by id, and only those that have ended are deleted at the server."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from nvflare.fuel.flare_api.api_spec import JobNotFound

from fedsynth.settings import Settings
from nvflare_jobs.federation import submitted
from nvflare_jobs.federation.interface import FederationError


class Server:
    """In the place of FLARE's: status of each job by id; what was deleted."""

    def __init__(self, jobs: dict[str, str], refusal: str = ""):
        self.jobs, self.refusal, self.asked = jobs, refusal, list[str]()

    def __call__(self, settings, work, kit):
        return self

    def call(self, method: str, job_id: str, patience_s: float):
        self.asked.append(method)
        if job_id not in self.jobs:
            raise JobNotFound(job_id)
        if method == "get_job_meta":
            return {"status": self.jobs[job_id]}
        assert method == "delete_job"
        if self.refusal:
            raise FederationError(self.refusal)
        return self.jobs.pop(job_id)

    def close(self) -> None:
        self.asked.append("close")


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("FEDSYNTH_ROOT", str(tmp_path))
    return replace(Settings.read(), federation="production", kit=tmp_path / "kit")


def remembered(root: Path, stage: str, ages: dict[str, int]) -> None:
    """Jobs of a stage by id, with the minutes since they were submitted."""
    for job_id, age in ages.items():
        submitted.remember(root, job_id, f"{stage}-{0:016x}", 10 - age)
        os.utime(root / submitted.PLACE / f"{job_id}.json", (1e9 - 60 * age,) * 2)


def files(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / submitted.PLACE).iterdir())


def test_each_stages_jobs_go_but_the_newest(settings, monkeypatch):
    remembered(settings.root, "train_vae", {"a": 0, "b": 1, "c": 2, "gone": 3})
    remembered(settings.root, "train_vae_gan", {"d": 5, "e": 6})
    server = Server(dict.fromkeys("abcdexy", "FINISHED:COMPLETED"))
    monkeypatch.setattr(submitted, "Calls", server)
    assert submitted.bound(settings, 2) == ""
    assert sorted(server.jobs) == ["a", "b", "d", "e", "x", "y"]  # x and y are another study's
    assert files(settings.root) == ["a", "b", "d", "e"]
    assert server.asked[-1] == "close"


@pytest.mark.parametrize("status", ["SUBMITTED", "DISPATCHED", "RUNNING"])
def test_a_job_that_runs_or_waits_stays_and_is_looked_at_again(settings, monkeypatch, status):
    remembered(settings.root, "train_vae", {"a": 0, "b": 1})
    server = Server({"a": "FINISHED:COMPLETED", "b": status})
    monkeypatch.setattr(submitted, "Calls", server)
    assert submitted.bound(settings, 1) == ""
    assert (sorted(server.jobs), files(settings.root)) == (["a", "b"], ["a", "b"])
    server.jobs["b"] = "FINISHED:ABORTED"
    submitted.bound(settings, 1)
    assert (sorted(server.jobs), files(settings.root)) == (["a"], ["a"])


def test_a_refusal_is_said_once_however_many_jobs_there_are(settings, monkeypatch):
    remembered(settings.root, "train_vae", {"a": 0, "b": 1, "c": 2})
    server = Server(dict.fromkeys("abc", "FINISHED:COMPLETED"), "host:1 does not let lead do this:\n no")
    monkeypatch.setattr(submitted, "Calls", server)
    said = submitted.bound(settings, 1)
    assert said == "jobs of earlier runs stay at the federation's server: host:1 does not let lead do this: no"
    assert server.asked == ["get_job_meta", "delete_job", "close"]
    assert files(settings.root) == ["a", "b", "c"]


def test_with_nothing_to_delete_the_server_is_not_asked(settings, monkeypatch):
    remembered(settings.root, "train_vae", {"a": 0})
    monkeypatch.setattr(submitted, "Calls", lambda *of: pytest.fail("the server was asked"))
    assert submitted.bound(settings, 1) == ""


def test_the_number_of_a_name_goes_on_after_jobs_were_deleted(settings):
    assert submitted.last(settings.root, f"train_vae-{0:016x}") == 0
    remembered(settings.root, "train_vae", {"a": 0, "b": 3})
    assert submitted.last(settings.root, f"train_vae-{0:016x}") == 10
    assert submitted.last(settings.root, f"train_vae-{1:016x}") == 0


def test_what_an_experiment_submits_is_the_studys(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", str(settings.root))
    submitted.remember(tmp_path / "workspace", "a", "train_vae-0", 1)
    assert files(settings.root) == ["a"]
