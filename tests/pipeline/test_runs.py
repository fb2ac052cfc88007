"""Runs that are not of everything: a model that fails, some models alone, other values than params.yaml has.

The tests are in the order of a story: a GAN that no hospital lets train, its mending in an experiment, then for good.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from fedsynth.stages import last_run
from tests.pipeline.conftest import change, command, copy, git
from tests.pipeline.test_pipeline import outcomes

pytestmark = pytest.mark.pipeline

BAD, GOOD = 1.0e30, 1.0e-3  # learning rates: the first is above what policies allow
MENDED = f"models.gan.training.lr={GOOD}"


def learning_rate(project: Path, value: float) -> None:
    change(project, lambda raw: raw["models"]["gan"]["training"].update(lr=value))


def run(project: Path, *words: str):
    return command(sys.executable, "-m", "fedsynth", "run", *words, cwd=project)


def verdicts(root: Path) -> dict:
    return json.loads((root / "reports" / "verdict.json").read_text())


def scored(root: Path) -> set[str]:
    return set(pd.read_csv(root / "reports" / "report" / "worth.csv")["model"].dropna())


def registered(project: Path) -> set[str]:
    script = (
        "from pathlib import Path; from fedsynth.registry.versions import client_of;"
        " print('::', *(m.name for m in client_of(Path.cwd()).search_registered_models()))"
    )
    return set(command(sys.executable, "-c", script, cwd=project).stdout.rpartition("::")[2].split())


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = copy(tmp_path_factory.mktemp("runs"))
    learning_rate(folder, BAD)
    git("commit", "-q", "-a", "-m", "a learning rate", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def failed(project):
    return run(project)


def test_a_model_that_fails_does_not_take_the_others_report(project, failed):
    assert failed.returncode == 1, failed.stdout[-4000:]
    found = outcomes(failed.stdout)
    assert {stage for stage, outcome in found.items() if outcome == "failed"} == {"train@gan"}
    assert {stage for stage, outcome in found.items() if outcome == "left"} == {"sample@gan", "score@gan", "export@gan"}
    assert {found[stage] for stage in ("score@diffusion", "export@diffusion", "report")} == {"ran"}
    assert "must not be promoted: train@gan failed: " in (project / "reports/report/index.html").read_text()
    gates = verdicts(project)["gan"]["gates"]
    assert gates
    assert not any(gate["held"] for gate in gates)
    assert scored(project) == {"diffusion"}
    assert registered(project) == {"fedsynth-diffusion"}
    assert "synthetic diffusion" in failed.stdout, "the summary is printed all the same"


def test_the_run_ends_as_failed_with_a_sentence_that_says_whom_it_concerns(project, failed):
    record = last_run.read(project)
    assert record["outcome"] == last_run.FAILED
    assert record["stages"]["train@gan"]["state"] == "failed"
    said = record["said"]
    assert "failed: train@gan, sites north, south: its policy does not allow this job" in said
    assert said.endswith("concerns: north's data protection officer, south's data protection officer")
    assert f"error: {said}" in failed.stdout


def test_of_some_models_alone_their_stages_are_run_and_the_report_shows_those_that_have_results(project, failed):
    done = run(project, "--models", "diffusion")
    assert done.returncode == 0, done.stdout[-4000:]
    assert not [stage for stage in outcomes(done.stdout) if stage.endswith("@gan")]
    assert {stage for stage, outcome in outcomes(done.stdout).items() if outcome == "ran"} == {"source", "report"}
    assert set(verdicts(project)) == {"diffusion"}
    assert run(project, "--models", "gna").stdout.strip().endswith("did you mean 'gan'?")


def test_a_run_with_other_values_is_an_experiment_and_leaves_the_study_as_it_is(project, failed):
    before = {name: (project / name).read_bytes() for name in ("params.yaml", "dvc.lock", "reports/verdict.json")}
    done = run(project, "-S", MENDED)
    assert done.returncode == 0, done.stdout[-4000:]
    ran = {stage for stage, outcome in outcomes(done.stdout).items() if outcome == "ran"}
    assert ran == {"source", "train@gan", "sample@gan", "score@gan", "export@gan", "report"}
    assert {name: (project / name).read_bytes() for name in before} == before
    shown = json.loads(command("dvc", "exp", "show", "--json", cwd=project).stdout)
    names = [one["name"] for of in shown for one in of["experiments"] or []]
    assert names == ["gan-lr-0.001"]
    assert scored(project / ".work/experiments/gan-lr-0.001") == {"diffusion", "gan"}
    assert registered(project) == {"fedsynth-diffusion", "fedsynth-gan"}
    assert last_run.read(project)["experiment"] == "gan-lr-0.001"


def test_what_an_experiment_has_computed_is_there_for_the_study(project, failed):
    learning_rate(project, GOOD)
    done = run(project)
    assert done.returncode == 0, done.stdout[-4000:]
    found = outcomes(done.stdout)
    assert {stage for stage, outcome in found.items() if outcome == "ran"} == {"source"}
    assert found["train@gan"] == found["score@gan"] == "restored"
    assert set(verdicts(project)) == {"diffusion", "gan"}


def test_results_of_an_earlier_version_of_a_model_that_fails_are_not_shown_as_this_runs(project, failed):
    learning_rate(project, BAD)
    done = run(project)
    assert done.returncode == 1, done.stdout[-4000:]
    assert {o for stage, o in outcomes(done.stdout).items() if stage.endswith("@diffusion")} == {"unchanged"}
    assert (project / "reports/score/gan.json").is_file(), "of the run before"
    assert "train@gan failed" in verdicts(project)["gan"]["said"]
    assert scored(project) == {"diffusion"}


def test_by_hand_dvc_goes_on_without_the_model_and_makes_the_same_report(project, failed):
    kept = command("dvc", "repro", "--keep-going", cwd=project)
    assert kept.returncode != 0
    assert yaml.safe_load((project / "data/missing.json").read_text()) == {}
    done = command("dvc", "repro", "--single-item", "report", cwd=project)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "train@gan failed: models/gan/model.json is not there" in verdicts(project)["gan"]["said"]
    assert scored(project) == {"diffusion"}
