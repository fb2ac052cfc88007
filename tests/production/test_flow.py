"""The pipeline's flow over a provisioned federation: killed and started again, cancelled through Prefect, run a second
time.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from nvflare_jobs.federation import local_system
from nvflare_jobs.federation.provisioned import Provisioned
from tests.pipeline.conftest import ROOT, change, copy, environment
from tests.pipeline.test_deployments import PREFECT, Server, prefect_server, running
from tests.production.conftest import Trial, started

pytestmark = [pytest.mark.production, pytest.mark.timeout(900)]

SITES = ["north", "south"]


@pytest.fixture(autouse=True)
def prefect_home(tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))


@pytest.fixture
def consortium(tmp_path, prefect_home) -> Iterator[tuple[Trial, Path]]:
    """Two hospitals that have ingested their images, and the project at the centre,
    whose params.yaml names one model.
    """
    with started(tmp_path, SITES) as trial:
        centre = tmp_path / "centre"
        centre.mkdir()
        copy(centre)
        shutil.copy(ROOT / "prefect.yaml", centre)
        change(centre, lambda raw: raw.update(models={"gan": raw["models"]["gan"]}))
        for site in SITES:
            here = tmp_path / "hospitals" / site
            here.mkdir(parents=True)
            (here / "params.yaml").write_text((centre / "params.yaml").read_text())
            env = environment(here) | trial.system.places[site] | {"PYTHONPATH": str(centre)}
            subprocess.run(
                [sys.executable, "-m", "fedsynth", "ingest", "--site", site],
                cwd=here,
                env=env,
                check=True,
                capture_output=True,
            )
        yield trial, centre


def place(trial: Trial) -> dict[str, str]:
    return {"FEDSYNTH_FEDERATION": "production", "FEDSYNTH_KIT": str(trial.system.admin), "FEDSYNTH_CONNECT_S": "30"}


def jobs(trial: Trial) -> list[dict]:
    with Provisioned(trial.settings(), trial.root / "look", trial.system.admin) as connected:
        return connected.call("list_jobs")


def stages_left(centre: Path) -> list[str]:
    """What is left of stages, not of Prefect's own programs."""
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.status() != psutil.STATUS_ZOMBIE
                and "FEDSYNTH_OWNER" in process.environ()
                and process.cwd().startswith(str(centre))
            ):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def wait(what: str, holds, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.5)


def test_a_flow_that_was_killed_is_started_again_and_finds_its_job(consortium, measured):
    trial, centre = consortium
    change(centre, lambda raw: raw["models"]["gan"]["training"].update(rounds=16, epochs=8))
    env = environment(centre) | place(trial)
    flow = subprocess.Popen(
        [sys.executable, "-m", "flows"],
        cwd=centre,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert flow.stdout is not None
    server = []
    for line in flow.stdout:
        if "train@gan: round 2/" in line:
            server = psutil.Process(flow.pid).children()
            flow.kill()
            break
    assert flow.wait() == -signal.SIGKILL
    began = time.monotonic()
    wait("the stages of a flow that was killed end", lambda: stages_left(centre) == [], 20)
    for process in server:  # Prefect's own server, where PREFECT_API_URL names none, outlives a flow that is killed
        if process.is_running():
            process.kill()
    again = subprocess.run(
        [sys.executable, "-m", "flows"],
        cwd=centre,
        env=env,
        text=True,
        check=False,
        timeout=500,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert again.returncode == 0, again.stdout[-5000:]
    said = "goes on with the same job, and to the end"
    measured("the flow is killed (SIGKILL) in a training, and started again", said, time.monotonic() - began)
    names = [job["job_name"].rpartition("-")[0] for job in jobs(trial)]
    assert names.count("train_gan") == 1  # the second flow found the first one's
    history = json.loads((centre / "models/gan/history.json").read_text())
    assert [r["round"] for r in history["rounds"]] == list(range(16))
    assert history["resumed_at"] == []
    assert "simulation" not in (centre / "reports/report/index.html").read_text().split("pooled")[0]

    third = subprocess.run(
        [sys.executable, "-m", "flows"],
        cwd=centre,
        env=env,
        text=True,
        check=False,
        timeout=300,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert "Nothing has changed since the last run." in third.stdout, third.stdout[-3000:]


def test_prefects_cancel_aborts_the_job_and_the_next_run_goes_on_from_its_last_round(consortium, measured, tmp_path):
    trial, centre = consortium
    change(centre, lambda raw: raw["models"]["gan"]["training"].update(rounds=200, epochs=4))
    with prefect_server(tmp_path) as api:
        server = Server(centre, api)
        server.cli("work-pool", "create", "local-process", "--type", "process")
        server.cli("--no-prompt", "deploy", "--name", "nightly")
        words = (*PREFECT, "worker", "start", "--pool", "local-process")
        with running(*words, cwd=centre, log=tmp_path / "worker.log", PREFECT_API_URL=api, **place(trial)):
            first = launched(server)
            training = rounds_of(trial, 3)
            began = time.monotonic()
            server.cli("flow-run", "cancel", first)
            wait(
                "the job is aborted",
                lambda: {j["job_id"]: j["status"] for j in jobs(trial)}[training] == "FINISHED:ABORTED",
                60,
            )
            wait("the flow is cancelled", lambda: state(server, first) == "Cancelled", 90)
            wait("no stage is left", lambda: stages_left(centre) == [], 20)
            measured(
                "`prefect flow-run cancel` while a job runs",
                "Cancelled; the job FINISHED:ABORTED",
                time.monotonic() - began,
            )
            assert list((trial.state(local_system.SERVER) / "server" / "train").glob("gan-*/global.safetensors"))
            second = launched(server)
            following = rounds_of(trial, 3, but=training)  # the rounds of the first job count
            with Provisioned(trial.settings(), trial.root / "look", trial.system.admin) as connected:

                def resumed() -> list[int]:
                    return [r["round"] for r in connected._progress(following).get("rounds", []) if r.get("resumed")]

                wait("a round of the second job", resumed, 60)
                assert resumed()[0] >= 3
            server.cli("flow-run", "cancel", second)
            wait("the flow is cancelled", lambda: state(server, second) == "Cancelled", 60)
            wait("no stage is left", lambda: stages_left(centre) == [], 20)


def launched(server: Server) -> str:
    said = server.cli("deployment", "run", "pipeline/nightly")
    return re.search(r"UUID: ([0-9a-f-]{36})", said)[1]


def state(server: Server, run: str) -> str:
    return next(r["state"]["name"] for r in server.ask("flow_runs/filter", {}) if r["id"] == run)


def rounds_of(trial: Trial, number: int, but: str = "") -> str:
    """Wait until a training has done so many rounds; its job's id."""
    deadline = time.monotonic() + 240
    with Provisioned(trial.settings(), trial.root / "look", trial.system.admin) as connected:
        while time.monotonic() < deadline:
            found = [
                j for j in connected.call("list_jobs") if j["job_name"].startswith("train_gan") and j["job_id"] != but
            ]
            for job in [j["job_id"] for j in found if j["status"] == "RUNNING"]:
                if len(connected._progress(job).get("rounds", [])) >= number:
                    return str(job)
            time.sleep(1)
    pytest.fail("no training got so far")
