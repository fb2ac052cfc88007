"""A pipeline's runs in MLflow on SQLite, and the registry: what is logged once, under whom, and how it ends."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from fedsynth.errors import UserError
from fedsynth.registry import tracking
from fedsynth.settings import tracking_uri
from fedsynth.training import weights
from tests.judged import judged
from tests.sets import tiny_params
from tests.trained import ROUNDS, trained

PARAMS = tiny_params()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One project for all tests: making a database takes seconds."""
    root = tmp_path_factory.mktemp("project")
    (root / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  train@vae:\n    outs:\n    - {path: models/vae, md5: 1b.dir}\n"
    )
    return root


def below(tracker, run_id):
    found = tracker.client.search_runs([tracker.experiment_id], f"tags.mlflow.parentRunId = '{run_id}'")
    return {run.info.run_name: run for run in found}


def children(tracker):
    """What lies below the run of a pipeline: models by name, stages, and stages of models."""
    first = below(tracker, tracker.run_id)
    models = {run.data.tags["model"]: run for run in first.values() if "model" in run.data.tags}
    stages = {name: run for name, run in first.items() if "model" not in run.data.tags}
    return models | stages | {n: run for of in models.values() for n, run in below(tracker, of.info.run_id).items()}


def parent(tracker):
    return tracker.client.get_run(tracker.run_id)


def history(tracker, run_id, name):
    return [(m.step, m.value) for m in tracker.client.get_metric_history(run_id, name)]


def test_the_database_lies_in_the_project_unless_the_environment_says_otherwise(tmp_path, monkeypatch):
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "real"))  # a copy made by `dvc exp run` is thrown away
    assert tracking_uri(tmp_path / "copy") == f"sqlite:///{tmp_path}/real/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert tracking_uri(tmp_path) == "http://127.0.0.1:1"


def test_nothing_is_written_to_the_terminal(root, capfd):
    with tracking.Tracker(root, PARAMS) as tracker:
        trained(root, PARAMS, seed=11)
        tracker.publish("vae")
    assert capfd.readouterr() == ("", "")


def test_a_run_has_the_params_the_lineage_and_its_name(root):
    with tracking.Tracker(root, PARAMS, name="nightly", tags={"prefect.flow_run_id": "f1"}) as tracker:
        (root / "reports").mkdir(exist_ok=True)
        (root / "reports" / "validation.json").write_text(
            json.dumps({"sites": {"north": {"digest": "n1"}}, "used": ["north"]})
        )
    run = parent(tracker)
    assert run.info.run_name == "nightly"
    assert run.data.params["models.vae.training.rounds"] == "1"
    assert run.data.params["image.size"] == "[16, 16]"
    assert run.data.tags["prefect.flow_run_id"] == "f1"
    assert run.data.tags["dvc.out.models/vae"] == "1b.dir"
    assert run.data.tags["data.digest.north"] == "n1", "what the run itself has made is tagged when it ends"
    assert (root / "mlflow.db").is_file()
    assert run.info.artifact_uri.startswith((root / "mlartifacts").as_uri())


def test_a_stage_is_one_child_of_the_run_whoever_asks_for_it(root):
    with tracking.Tracker(root, PARAMS) as tracker:
        with ThreadPoolExecutor(8) as pool:
            ids = set(pool.map(lambda _: tracker.stage("train", "vae", {"flare.job_id": "j1"}), range(16)))
        other = tracker.stage("sample", "vae")
        tracker.stage("reference")
    assert len(ids) == 1
    assert other not in ids
    assert set(children(tracker)) == {"vae", "train@vae", "sample@vae", "reference"}
    tags = children(tracker)["train@vae"].data.tags
    assert (tags["stage"], tags["model"], tags["flare.job_id"]) == ("train", "vae", "j1")


def test_a_round_is_logged_live_and_once(root):
    with tracking.Tracker(root, PARAMS) as tracker:
        run_id = tracker.stage("train", "vae")
        tracker.round("vae", {"kind": "round", "rounds": 2, **ROUNDS[0]})
        assert history(tracker, run_id, "loss/autoencoder") == [(0, 1.25)], "before the training has ended"
        tracker.round("vae", ROUNDS[0])
        tracker.history("vae", {"job_id": "j1", "rounds": ROUNDS})
        tracker.history("vae", {"job_id": "j1", "rounds": ROUNDS})
        assert history(tracker, run_id, "north/loss/autoencoder") == [(0, 1.0), (1, 0.5)]
        assert history(tracker, run_id, "east/loss/autoencoder") == [(0, 2.0), (1, 0.1)]
        assert history(tracker, run_id, "loss/autoencoder") == [(0, 1.25), (1, pytest.approx(0.4))]
    assert children(tracker)["train@vae"].data.tags["flare.job_id"] == "j1"


def test_rounds_of_two_models_arrive_from_two_threads(root):
    rounds = [{"round": i, "sites": {"north": {"loss/net": float(i), "weight": 1}}} for i in range(20)]
    with tracking.Tracker(root, PARAMS) as tracker:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda model: [tracker.round(model, r) for r in rounds], ("vae", "gan")))
        for model in ("vae", "gan"):
            assert history(tracker, tracker.stage("train", model), "loss/net") == [(i, float(i)) for i in range(20)]


def test_sites_that_were_left_out_or_bounded_are_tags_of_the_training(root):
    odd = [ROUNDS[0] | {"left_out": {"west": "sent no arrays"}}, ROUNDS[1] | {"bounded": {"east": "norm 9 times"}}]
    with tracking.Tracker(root, PARAMS) as tracker:
        tracker.history("vae", {"job_id": "j1", "rounds": odd})
        tags = tracker.client.get_run(tracker.stage("train", "vae")).data.tags
    assert tags["left_out.west"] == "1 of 2 rounds (1): sent no arrays"
    assert tags["bounded.east"] == "1 of 2 rounds (2): norm 9 times"


def test_a_round_that_did_not_reach_the_server_ends_nothing_and_is_made_up_for(root, monkeypatch, caplog):
    from mlflow.exceptions import MlflowException

    def refuse(*_, **__):
        raise MlflowException("no connection")

    with tracking.Tracker(root, PARAMS) as tracker:
        run_id = tracker.stage("train", "vae")
        with monkeypatch.context() as broken:
            broken.setattr(tracker.client, "log_batch", refuse)
            tracker.round("vae", ROUNDS[0])
        assert "round 0 of vae did not reach MLflow" in caplog.text
        tracker.history("vae", {"job_id": "j1", "rounds": ROUNDS})
        assert [step for step, _ in history(tracker, run_id, "loss/autoencoder")] == [0, 1]


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")]
)
def test_an_error_fails_the_run_and_a_signal_kills_it_with_what_is_still_open(root, error, status):
    tracker = tracking.Tracker(root, PARAMS)
    tracker.stage("train", "vae")
    tracker.stage("sample", "vae")
    tracker.ended("train", "vae")
    tracker.ended("score", "vae")  # never begun
    with pytest.raises(error), tracker:
        raise error
    assert parent(tracker).info.status == status
    assert {name: run.info.status for name, run in children(tracker).items()} == {
        "vae": status,
        "train@vae": "FINISHED",
        "sample@vae": status,
    }


def test_a_cancelled_task_kills_the_run_and_a_second_close_changes_nothing(root):
    from concurrent.futures import CancelledError

    with pytest.raises(CancelledError), tracking.Tracker(root, PARAMS) as tracker:
        raise CancelledError
    tracker.close("FINISHED")
    assert parent(tracker).info.status == "KILLED"


def test_the_report_its_pictures_and_the_reference_are_kept(root, tmp_path, monkeypatch):
    (tmp_path / "index.html").write_text("<p>page</p>")
    (tmp_path / "samples_vae.png").write_bytes(b"\x89PNG")
    row = {
        "use": "c",
        "name": "pooled",
        "trained_on": "all",
        "model": "",
        "site": "north",
        "seed": 1,
        "metrics": {"auroc": 0.9},
    }
    (root / "reports").mkdir(exist_ok=True)
    (root / "reports" / "reference.json").write_text(json.dumps({"rows": [row]}))
    with tracking.Tracker(root, PARAMS) as tracker:
        tracker.report(tmp_path)
    paths = {a.path for folder in ("report", "pictures") for a in tracker.client.list_artifacts(tracker.run_id, folder)}
    assert paths == {"report/index.html", "report/samples_vae.png", "pictures/samples_vae.png"}
    assert children(tracker)["reference"].data.metrics["c/pooled/north/auroc"] == 0.9
    assert tracker.address("report/index.html") == "", "a database has no page"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    run = f"experiments/{tracker.experiment_id}/runs/{tracker.run_id}"
    assert tracker.address("report/index.html") == f"http://127.0.0.1:5000/#/{run}/artifacts/report/index.html"
    (root / "reports" / "reference.json").unlink()


def test_the_same_weights_are_one_version_and_other_weights_the_next(root):
    about = trained(root, PARAMS, seed=1)
    with tracking.Tracker(root, PARAMS) as first:
        assert not tracking.registered(root, PARAMS)
        version = first.publish("vae")
        assert first.publish("vae") == version
        assert tracking.register(root, "vae", first.model("vae")) == version
    assert tracking.registered(root, PARAMS)
    with tracking.Tracker(root, PARAMS) as again:
        assert again.publish("vae") == version
        assert children(again) == {}, "a training that was not repeated has no run"
        assert parent(again).data.tags["registered.vae"] == f"fedsynth-vae version {version}"
    trained(root, PARAMS, seed=2)
    assert not tracking.registered(root, PARAMS)
    with tracking.Tracker(root, PARAMS) as other:
        assert int(other.publish("vae")) == int(version) + 1
    found = other.client.get_model_version("fedsynth-vae", version)
    assert found.run_id == first.model("vae"), "the run with the params and the numbers"
    assert found.tags["weights_sha256"] == about["weights_sha256"]
    assert found.tags["flare.job_id"] == "job-1"
    assert found.tags["data.digest.north"] == "digest-north"
    assert found.tags["dvc.out.models/vae"] == "1b.dir"
    assert {"git.commit", "git.dirty", "dvc.lock"} <= set(found.tags)
    assert "trained by FedAvg over 2 sites" in found.description
    assert [step for step, _ in history(other, first.stage("train", "vae"), "loss/autoencoder")] == [0, 1]


def test_scores_and_worth_are_metrics_of_their_own_run_and_stand_in_the_card(root):
    trained(root, PARAMS, seed=4)
    known = {"use": "c", "model": "", "site": "north", "seed": 1, "n": {"auroc": 9}}
    real = [
        known | {"name": name, "trained_on": on, "metrics": {"auroc": value}}
        for name, on, value in (("local", "north", 0.6), ("pooled", "all", 0.8))
    ]
    made = [known | {"name": name, "trained_on": on, "model": "vae", "metrics": {"auroc": value}}
            for name, on, value in (("synthetic", "vae", 0.4), ("augmented", "north", 0.7))]  # fmt: skip
    (root / "reports" / "score").mkdir(parents=True, exist_ok=True)
    (root / "reports" / "reference.json").write_text(json.dumps({"rows": real}))
    (root / "reports" / "score" / "vae.json").write_text(json.dumps({"rows": made}))
    with tracking.Tracker(root, PARAMS) as tracker:
        version = tracker.publish("vae")
    metrics = children(tracker)["score@vae"].data.metrics
    assert metrics["c/synthetic/north/auroc"] == 0.4
    assert metrics["c/retained"] == pytest.approx(0.5)
    assert metrics["c/gap_closed"] == pytest.approx(0.5)
    assert metrics["c/gap_closed_poorest"] == pytest.approx(0.5)
    found = tracker.client.get_model_version("fedsynth-vae", version)
    assert "| c | 50 % of pooled | 50 % of the gap to pooled | 50 % of the gap to pooled |" in found.description
    assert (found.tags["worth.c.retained"], found.tags["gates"], found.tags["epsilon"]) == (
        "0.5000",
        "none set",
        "none",
    )


def test_measures_are_metrics_with_their_floors_and_sites_and_the_verdict_is_counted(root):
    trained(root, PARAMS, seed=8)
    judged(root)
    strict = tiny_params(gates={"by": "point", "require": ["fid <= 1", "coverage >= 0.5"], "warn": ["kid <= 1"]})
    with tracking.Tracker(root, strict) as tracker:
        tracker.publish("vae")
    assert tracking.registered(root, strict)
    other = tiny_params(gates={"by": "point", "require": ["fid <= 2"]})
    assert not tracking.registered(root, other), "the same weights under other gates have yet to be judged"
    metrics = children(tracker)["score@vae"].data.metrics
    assert [metrics[f"measure/fid{of}"] for of in ("", "/floor", "/low", "/high", "/north", "/south")] == [
        2.0,
        1.0,
        1.7,
        2.3,
        2.2,
        1.8,
    ]
    assert "measure/membership_loss_auc" not in metrics, "what was not computed is no metric"
    assert "epsilon" not in metrics
    assert metrics["segmentation/worst_site/hd95"] == 9.0
    assert (metrics["gates/failed"], metrics["gates/warnings"]) == (1, 1)
    (root / "reports" / "reference.json").unlink()
    (root / "reports" / "score" / "vae.json").unlink()


def test_scores_of_other_weights_are_not_published(root):
    about = trained(root, PARAMS, seed=9)
    judged(root, weights_sha256=about["weights_sha256"])
    trained(root, PARAMS, seed=10)
    with tracking.Tracker(root, PARAMS) as tracker, pytest.raises(UserError, match="is of other weights"):
        tracker.publish("vae")
    (root / "reports" / "reference.json").unlink()
    (root / "reports" / "score" / "vae.json").unlink()


def test_weights_that_are_not_those_of_model_json_are_refused(root):
    trained(root, PARAMS, seed=3)
    path = root / "models" / "vae" / weights.FILE
    weights.save(path, {name: a + 1 for name, a in weights.load(path).items()})
    with (
        tracking.Tracker(root, PARAMS) as tracker,
        pytest.raises(weights.WeightsError, match=r"models/vae/weights\.safetensors is not what model\.json"),
    ):
        tracker.publish("vae")


def test_nothing_is_registered_where_there_is_no_database_and_none_is_made(tmp_path):
    trained(tmp_path, PARAMS)
    assert not tracking.registered(tmp_path, PARAMS)
    assert not (tmp_path / "mlflow.db").exists()


def test_a_model_that_was_trained_again_has_a_run_even_if_nothing_has_changed(root):
    trained(root, PARAMS, seed=21)
    with tracking.Tracker(root, PARAMS) as first:
        first.publish("vae")
    with tracking.Tracker(root, PARAMS) as again:
        again.round("vae", ROUNDS[0])
        again.publish("vae")
    (run,) = below(again, again.run_id).values()
    assert [run.data.tags["result"]] == [of.data.tags["result"] for of in below(first, first.run_id).values()]
    assert run.info.status == "FINISHED"


@pytest.fixture(scope="module")
def busi(root):
    """Two runs of another study with two models, of which the second changes one; on the same database."""
    (root / "params.yaml").write_text("study: busi\n")
    yield two_settings(root)
    (root / "params.yaml").unlink()
    shutil.rmtree(root / "reports")


def two_settings(root):
    trackers = []
    for seed, (rounds, reached) in enumerate(((12, 0.8), (20, 0.85))):
        vae = PARAMS.model_dump(mode="json")["models"]["vae"]
        models = {"vae": vae | {"training": {"rounds": rounds}}, "other": vae}
        params = tiny_params(models=models, gates={"require": ["classification/retained >= 0.5 by point"]})
        for model, of, at in (("vae", seed, reached), ("other", 9, 0.7)):
            about = trained(root, params, model=model, seed=of)
            judged(root, model, at, weights_sha256=about["weights_sha256"])
        with tracking.Tracker(root, params) as tracker:
            for model in models:
                tracker.publish(model)
        trackers.append(tracker)
    return trackers


def test_the_run_of_a_model_says_which_setting_gave_which_result(busi):
    first, second = busi
    assert set(below(first, first.run_id)) == {"busi vae", "busi other"}
    assert set(below(second, second.run_id)) == {"busi vae rounds=20"}, "what has not changed has its run already"
    a, b = below(first, first.run_id)["busi vae"].data, below(second, second.run_id)["busi vae rounds=20"].data
    assert {key for key in a.params | b.params if a.params.get(key) != b.params.get(key)} == {"training.rounds"}
    assert (a.metrics["classification/gap_closed_poorest"], b.metrics["classification/gap_closed_poorest"]) == (
        pytest.approx(0.75),
        pytest.approx(0.875),
    )
    assert {"retained", "segmentation/retained", "fid", "copies_pixel", "gates/failed"} <= set(b.metrics)
    assert history(second, below(second, second.run_id)["busi vae rounds=20"].info.run_id, "loss/autoencoder") != []
    assert not any("north" in name for name in b.metrics), "numbers by site are below it"


def test_the_run_of_a_pipeline_has_all_params_and_the_numbers_of_its_best_model(busi):
    first, second = (parent(tracker) for tracker in busi)
    assert (first.info.run_name, second.info.run_name) == ("busi", "busi vae.rounds=20")
    assert first.data.tags["best"] in ("vae", "other")  # they retain the same
    model = below(busi[0], busi[0].run_id)[f"busi {first.data.tags['best']}"]
    shared = {name: value for name, value in model.data.metrics.items() if not name.startswith("loss/")}
    assert first.data.metrics == shared
    assert first.data.params["models.vae.training.rounds"] == "12"
    assert first.info.status == second.info.status == "FINISHED"


def test_data_sets_are_logged_by_the_digest_of_their_validation_alone(busi):
    first, _ = busi
    for run in (parent(first), below(first, first.run_id)["busi vae"]):
        found = {of.dataset.name: of.dataset for of in run.inputs.dataset_inputs}
        assert {name: of.digest for name, of in found.items()} == {"north": "digest-north", "east": "digest-east"}
        assert json.loads(found["north"].source) == {"site": "north", "digest": "digest-north"}
        assert {of.schema for of in found.values()} == {of.profile for of in found.values()} == {None}
