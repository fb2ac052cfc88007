"""Runs of MLflow for what DVC computes alone, as in `dvc exp run`."""

from __future__ import annotations

import shutil

import pytest

from fedsynth.registry import record, runs, tracking, versions
from tests.alone import alone
from tests.judged import judged
from tests.sets import make_set, tiny_params
from tests.trained import trained

PARAMS = tiny_params()


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A study in whose MLflow is nothing: to make its tables takes seconds."""
    root = tmp_path_factory.mktemp("empty")
    with alone():
        runs.experiment(versions.client_of(root), root)
    return root


@pytest.fixture
def root(empty, tmp_path):
    """A trained and scored model."""
    shutil.copy(empty / "mlflow.db", tmp_path)
    about = trained(tmp_path, PARAMS)
    judged(tmp_path, weights_sha256=about["weights_sha256"])
    drawn = {"site": "synthetic", "origin": "synthetic", "model": "vae/c3c3c3"}
    make_set(tmp_path / "data/synthetic/vae", PARAMS, n=12, **drawn)
    return tmp_path


def of_models(root):
    client = versions.client_of(root)
    return client.search_runs([runs.experiment(client, root)], "tags.kind = 'model'")


def test_an_experiment_leaves_runs_once_and_no_version(root, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "vae-20")
    assert record.record(root, PARAMS) == ["vae"]
    (run,) = of_models(root)
    assert (run.info.run_name, run.data.tags["dvc.exp"], run.info.status) == ("fedsynth vae", "vae-20", "FINISHED")
    assert run.data.params["training.rounds"] == "1"
    assert run.data.metrics["classification/gap_closed"] == pytest.approx(0.75, abs=0.2)
    assert versions.of_study(root) == []
    assert record.record(root, PARAMS) == [], "what is there is not logged again"
    assert len(of_models(root)) == 1


def test_a_model_without_results_is_left_out(root):
    two = tiny_params(models={name: PARAMS.models["vae"].model_dump(mode="json") for name in ("vae", "gan")})
    assert record.record(root, two) == ["vae"]
    assert [run.data.tags["model"] for run in of_models(root)] == ["vae"]


def test_a_flow_registers_what_an_earlier_run_of_dvc_has_logged(root):
    record.record(root, PARAMS)
    with tracking.Tracker(root, PARAMS) as tracker:
        assert tracker.publish("vae") == "1"
    (run,) = of_models(root)
    assert versions.version_of(root, "vae").run_id == run.info.run_id
    assert run.data.tags["registered.vae"] == "fedsynth-vae version 1"


def test_a_copy_of_an_experiment_writes_to_the_study_that_it_is_of(root, monkeypatch, tmp_path_factory):
    home = tmp_path_factory.mktemp("study")
    (root / "mlflow.db").rename(home / "mlflow.db")
    monkeypatch.setenv("DVC_ROOT", str(home))
    assert record.record(root, PARAMS) == ["vae"]
    assert not (root / "mlflow.db").exists()
    assert len(of_models(home)) == 1


def test_a_server_that_does_not_answer_is_a_warning(root, monkeypatch, caplog):
    from mlflow.exceptions import MlflowException

    def refuse(*_, **__):
        raise MlflowException("no connection to http://ada:secret@server")

    monkeypatch.setattr(versions, "client_of", refuse)
    assert record.record(root, PARAMS) == []
    assert "not in MLflow: no connection to http://ada:***@server" in caplog.text
