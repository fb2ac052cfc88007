"""The main job from end to end on a tiny params.yaml: what it leaves, what a change costs, what an older commit brings
back.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
import yaml

from tests.pipeline.conftest import change, command, copy, environment, git, run

pytestmark = pytest.mark.pipeline


def outcomes(output: str) -> dict[str, str]:
    """Stage -> ran, restored, unchanged, failed or left, from the lines that the terminal showed."""
    found = {}
    for line in output.splitlines():
        words = line.split()
        if len(words) > 3 and words[0] in "✔↺·✘–" and not words[1].startswith("register@"):
            found[words[1]] = words[2]
    return found


def test_a_run_goes_from_images_to_registered_models(project, first):
    assert set(outcomes(first.stdout).values()) == {"ran"}
    # source, ingest, validate, reference, pretrain, report, and train, sample, score, export of two models
    assert len(outcomes(first.stdout)) == 14
    for path in (
        "reports/report/index.html",
        "reports/worth.json",
        "data/export/diffusion/png.zip",
        "data/export/gan/DATASHEET.md",
    ):
        assert (project / path).is_file(), path
    assert "reports/report/index.html" in first.stdout  # where to look
    assert "north" in first.stdout  # the table of worth


def test_rounds_are_seen_while_they_happen(first):
    assert "train@diffusion: round 1/2" in first.stdout
    assert "train@gan: round 2/2" in first.stdout


def test_mlflow_holds_parent_children_rounds_pictures_and_models(project, first):
    script = """
import json
from mlflow import MlflowClient
from fedsynth.settings import tracking_uri
from pathlib import Path
c = MlflowClient(tracking_uri(Path.cwd()))
runs = c.search_runs([e.experiment_id for e in c.search_experiments()])
parents = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
children = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
ids = {r.info.run_id: r for r in children}
details = [r for r in runs if r.data.tags.get("mlflow.parentRunId") in ids]
train = next(r for r in details if r.info.run_name == "train@diffusion")
model = next(r for r in children if r.data.tags.get("model") == "diffusion")
print("::" + json.dumps({
    "parents": [p.info.status for p in parents],
    "tags": sorted(parents[0].data.tags),
    "names": [parents[0].info.run_name, *sorted(r.info.run_name for r in [*children, *details])],
    "best": parents[0].data.metrics,
    "params": model.data.params["training.rounds"],
    "metrics": model.data.metrics,
    "data": sorted(of.dataset.name for of in model.inputs.dataset_inputs),
    "steps": [m.step for m in c.get_metric_history(train.info.run_id, "north/loss/unet")] or sorted(train.data.metrics),
    "models": sorted(m.name for m in c.search_registered_models()),
    "version": c.get_model_version("fedsynth-diffusion", "1").tags,
    "artifacts": [a.path for r in [*parents, *children] for a in c.list_artifacts(r.info.run_id)],
}))
"""
    done = command(sys.executable, "-c", script, cwd=project)
    found = json.loads(done.stdout.split("::", 1)[1])
    assert found["parents"] == ["FINISHED"]
    stages = ("score@diffusion", "score@gan", "train@diffusion", "train@gan")
    assert found["names"] == ["fedsynth", *sorted(("fedsynth diffusion", "fedsynth gan", "reference", *stages))]
    headline = {"fid", "membership_loss_auc", "bytes"}  # no share: networks of so few steps are at chance
    assert headline <= set(found["metrics"])
    assert {"fid", "bytes"} <= set(found["best"])
    assert (found["params"], found["data"]) == ("2", ["north", "south"])
    assert found["steps"] == [0, 1]
    assert found["models"] == ["fedsynth-diffusion", "fedsynth-gan"]
    job_id = json.loads((project / "models/diffusion/model.json").read_text())["job_id"]
    assert job_id in found["version"].values()
    assert any("samples_diffusion" in a or "pictures" in a or "report" in a for a in found["artifacts"])


def test_canaries_are_looked_for_in_each_model_also_in_one_with_a_seed_of_its_own(project, first):
    for model, seed in (("diffusion", 4), ("gan", 3)):
        found = json.loads((project / f"reports/score/{model}.json").read_text())["measures"]["canaries_auc"]
        assert all(0 <= of["value"] <= 1 for of in found["sites"].values()), found
        assert json.loads((project / f"models/{model}/model.json").read_text())["seed"] == seed
        assert f",{seed}," in (project / f"data/synthetic/{model}/manifest.csv").read_text().splitlines()[1]


def test_a_second_run_with_nothing_changed_does_no_work(project, first):
    shutil.rmtree(project / ".work" / "sites")  # what simulated sites keep: their secrets are the same when made again
    started = time.monotonic()
    again = run(project)
    assert again.returncode == 0
    assert "Nothing has changed" in again.stdout
    assert list((project / "fedsynth").rglob("*.pyc"))  # bytecode is written, and makes nothing stale
    assert time.monotonic() - started < 60  # a guard against work being done; the time itself is in the benchmarks
    shown = first.stdout[first.stdout.index("classification (balanced accuracy)") : first.stdout.index("flows    ")]
    assert shown in again.stdout


@pytest.mark.parametrize("module", ["flows", "flows.pipeline"])
def test_where_nothing_has_changed_nothing_heavy_is_imported(project, first, module):
    done = command(sys.executable, "-X", "importtime", "-m", module, cwd=project)
    assert "Nothing has changed" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stdout.splitlines() if line.startswith("import time:")}
    assert "dvc.repo" in imported
    assert {"prefect", "mlflow", "torch", "pandas", "networkx"}.isdisjoint(imported)


def test_a_version_that_is_gone_from_the_registry_is_registered_again(project, first):
    script = """
from pathlib import Path
from fedsynth.registry.versions import client_of
c = client_of(Path.cwd())
for version in c.search_model_versions("name='fedsynth-gan'"):
    c.delete_model_version(version.name, version.version)
"""
    assert command(sys.executable, "-c", script, cwd=project).returncode == 0
    again = run(project)
    assert again.returncode == 0, again.stdout[-4000:]
    assert "Nothing has changed" not in again.stdout
    assert set(outcomes(again.stdout).values()) <= {"ran", "unchanged"}
    assert {stage for stage, outcome in outcomes(again.stdout).items() if outcome == "ran"} == {"source"}
    assert "Nothing has changed" in run(project).stdout


def test_an_experiment_of_dvc_leaves_its_runs_in_the_studys_mlflow(project, first):
    git("add", "-A", cwd=project)
    git("commit", "-q", "--allow-empty", "-m", "first run", cwd=project)
    strict = ("-S", 'gates.require=["classification/retained >= 9", "fid <= -1", "kid <= -1"]', "-S", "gates.warn=[]")
    done = command("dvc", "exp", "run", "--temp", "--name", "strict", *strict, cwd=project)
    assert done.returncode == 0, done.stdout[-4000:]
    script = """
import json
from mlflow import MlflowClient
from fedsynth.settings import tracking_uri
from pathlib import Path
c = MlflowClient(tracking_uri(Path.cwd()))
runs = c.search_runs([e.experiment_id for e in c.search_experiments()], "tags.`dvc.exp` = 'strict'")
print("::" + json.dumps({r.info.run_name: [r.data.metrics["gates/failed"], len(r.data.params)] for r in runs}))
print("::" + json.dumps(len(c.search_model_versions("name='fedsynth-gan'"))))
"""
    said = command(sys.executable, "-c", script, cwd=project).stdout.split("::")
    found, versions = json.loads(said[1]), json.loads(said[2])
    (name,) = set(found) - {"fedsynth diffusion", "fedsynth gan"}
    assert name.startswith('fedsynth gates.require=["classification/retained >= 9"'), "what differs from the first run"
    assert all(failed == 3 and params > 20 for failed, params in found.values())
    assert versions == 1, "an experiment is no candidate"


def test_the_plan_of_the_next_run_is_what_it_does(project, first):
    always = {"source", "register@diffusion", "register@gan"}
    told = json.loads(command("fedsynth", "plan", "--json", cwd=project).stdout)
    assert {stage["stage"] for stage in told["stages"] if stage["runs"]} == always
    assert all(stage["seconds"] > 0 for stage in told["stages"])  # as it took the last time
    before = (project / "params.yaml").read_text()
    change(project, lambda raw: raw["gates"].update(require=["classification/retained >= 0.1"]))
    told = json.loads(command("fedsynth", "plan", "--json", cwd=project).stdout)
    (project / "params.yaml").write_text(before)
    made_anew = {"export@diffusion", "export@gan", "report"}
    assert {stage["stage"] for stage in told["stages"] if stage["runs"]} == always | made_anew


def test_a_change_of_one_model_runs_what_follows_from_it_and_nothing_else(project, first):
    remote, other = project.parent / "remote", project.parent / "other"
    command("dvc", "remote", "add", "-d", "shelf", str(remote), cwd=project)
    git("add", "-A", cwd=project)
    git("commit", "-q", "-m", "first run", cwd=project)
    before = (project / "models/diffusion/weights.safetensors").read_bytes()
    change(project, lambda raw: raw["models"]["diffusion"]["training"].update(lr=1.0e-3))
    done = run(project)
    assert done.returncode == 0, done.stdout[-4000:]
    ran = {stage for stage, outcome in outcomes(done.stdout).items() if outcome == "ran"}
    assert ran == {"source", "train@diffusion", "sample@diffusion", "score@diffusion", "export@diffusion", "report"}
    assert (project / "models/diffusion/weights.safetensors").read_bytes() != before

    # an older commit brings its data and models back, from a remote and on another machine too
    git("add", "-A", cwd=project)
    git("commit", "-q", "-m", "another learning rate", cwd=project)
    assert command("dvc", "push", "--all-commits", cwd=project).returncode == 0
    git("clone", "-q", str(project), str(other), cwd=project)
    assert command("dvc", "pull", cwd=other).returncode == 0
    assert (other / "models/diffusion/weights.safetensors").read_bytes() == (
        project / "models/diffusion/weights.safetensors"
    ).read_bytes()
    git("checkout", "-q", "HEAD~1", cwd=other)
    pulled = command("dvc", "pull", "--force", cwd=other)
    assert pulled.returncode == 0, pulled.stdout
    assert (other / "models/diffusion/weights.safetensors").read_bytes() == before
    git("checkout", "-q", "HEAD~1", cwd=project)
    assert command("dvc", "checkout", "--force", cwd=project).returncode == 0
    assert (project / "models/diffusion/weights.safetensors").read_bytes() == before


@pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C"])
def test_ending_the_flow_ends_its_federation_and_its_server(tmp_path, project, first, how):
    copy(tmp_path)
    # what has been computed already is not again
    shutil.copytree(project / ".dvc" / "cache", tmp_path / ".dvc" / "cache")
    change(tmp_path, lambda raw: raw["models"]["diffusion"]["training"].update(rounds=150))
    # a session of its own: a terminal's Ctrl-C goes to the whole group, and so does the test's
    process = subprocess.Popen(
        [sys.executable, "-m", "flows"],
        cwd=tmp_path,
        env=environment(tmp_path),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "train@diffusion: round 2/" in line:
            break
    assert process.poll() is None, "".join(lines)
    if how == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    rest, _ = process.communicate(timeout=60)  # until nobody holds its output any more
    assert time.monotonic() - started < 30
    assert process.returncode == {"SIGTERM": 143, "Ctrl-C": 130}[how], rest
    assert outcomes(rest)["train@diffusion"] == "ended"
    assert "reference" not in rest or outcomes(rest)["reference"] == "left"  # nothing was started any more
    left = [p.cmdline() for p in psutil.process_iter() if _in(p, str(tmp_path))]
    assert left == []
    # the next run goes on from there
    assert list((tmp_path / ".work/sites/server/train").glob("diffusion-*/global.safetensors"))


def _in(process: psutil.Process, folder: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and (process.environ().get("PYTHONPATH") == folder)
    except psutil.Error:
        return False


def test_the_deployment_is_valid_and_runs_nightly_one_at_a_time():
    from tests.pipeline.conftest import ROOT

    deployment = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"][0]
    module, _, name = deployment["entrypoint"].rpartition(".")
    assert f"def {name}(" in (ROOT / f"{module.replace('.', '/')}.py").read_text()
    assert deployment["schedules"][0]["cron"] == "0 2 * * *"
    assert deployment["concurrency_limit"]["limit"] == 1
