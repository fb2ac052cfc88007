"""The deployments of prefect.yaml on a server of their own: what runs when runs overlap or were missed, and who hears
of a failure.

The flows are trivial ones of the same names: what is tried is Prefect with these settings, not the pipeline.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.pipeline.conftest import ROOT, command, environment

PREFECT = (sys.executable, "-m", "prefect")
FLOWS = {
    "pipeline": """
import time
from pathlib import Path
from prefect import flow
from prefect.states import Failed

@flow(name="pipeline")
def pipeline(params: str | list[str] = "", models: str | list[str] = ""):
    if Path("bad").exists():
        raise ValueError("north/scan_0042.png cannot be read")
    if Path("told").exists():
        said = "train@vae, site north died; concerns: north's data manager"
        return Failed(message=f"fedsynth: nightly of busi failed: {said}")
    with Path("started").open("a") as file:
        file.write("x")
    time.sleep(10)
""",
    "promote": """
from prefect import flow

@flow(name="promote")
def promote(model: str):
    pass
""",
}


def deployments() -> dict[str, dict[str, Any]]:
    return {d["name"]: d for d in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def running(*words: str, cwd: Path, log: Path, **env: str) -> Iterator[subprocess.Popen]:
    """A program that is ended with all its processes. A worker takes a SIGTERM only when it wakes, so force follows
    soon.
    """
    with (
        log.open("wb") as file,
        subprocess.Popen(words, cwd=cwd, env=environment(cwd) | env, stdout=file, stderr=file) as process,
    ):
        try:
            yield process
        finally:
            tree = (
                [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
                if process.poll() is None
                else []
            )
            for act in (psutil.Process.terminate, psutil.Process.kill):
                for one in tree:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        act(one)
                tree = psutil.wait_procs(tree, timeout=5)[1]


@contextlib.contextmanager
def prefect_server(folder: Path) -> Iterator[str]:
    """A Prefect server on a free port of this machine, with a SQLite database of its own. Yields the URL of its API."""
    port, log = free_port(), folder / "server.log"
    home = {"PREFECT_HOME": str(folder / "home"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    with running(
        *PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port), cwd=folder, log=log, **home
    ) as process:
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5):
                break
            time.sleep(0.2)
        else:
            pytest.fail(f"the Prefect server did not come up:\n{log.read_text()[-3000:]}")
        yield f"http://127.0.0.1:{port}/api"


class Server:
    """A folder with the project's prefect.yaml and trivial flows, deployed on a server."""

    def __init__(self, folder: Path, api: str):
        self.folder, self.api = folder, api
        self.earlier: set[str] = set()

    def cli(self, *words: str) -> str:
        done = command(*PREFECT, *words, cwd=self.folder, PREFECT_API_URL=self.api, PWD="/")
        assert done.returncode == 0, done.stdout
        return done.stdout

    def worker(self) -> contextlib.AbstractContextManager[subprocess.Popen]:
        words = (*PREFECT, "worker", "start", "--pool", "local-process")
        return running(*words, cwd=self.folder, log=self.folder / "worker.log", PREFECT_API_URL=self.api)

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"{self.api}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        for pause_s in (1, 2, 4, 8, 0):  # 503: SQLite is busy, which Prefect's own clients sit out as well
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.loads(answer.read())
            except urllib.error.HTTPError as error:
                if error.code != 503 or not pause_s:
                    raise
            time.sleep(pause_s)

    def runs(self, *states: str) -> list[dict[str, Any]]:
        """Flow runs in the order in which they were to start, of all states but those still to come, or of these."""
        found = [
            r for r in self.ask("flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC"}) if r["id"] not in self.earlier
        ]
        return [r for r in found if (r["state"]["name"] in states if states else r["state"]["name"] != "Scheduled")]

    def due(self, ago_s: float) -> None:
        """A run of `nightly` that was to start some seconds ago, as the schedule would have made it."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - ago_s))
        nightly = self.ask("deployments/filter", {"deployments": {"name": {"any_": ["nightly"]}}})[0]["id"]
        self.ask(
            f"deployments/{nightly}/create_flow_run",
            {"state": {"type": "SCHEDULED", "state_details": {"scheduled_time": at}}},
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("deployed")
    shutil.copy(ROOT / "prefect.yaml", folder)
    (folder / "flows").mkdir()
    (folder / "flows" / "__init__.py").touch()  # a package, which comes before the installed one
    for name, code in FLOWS.items():
        (folder / "flows" / f"{name}.py").write_text(code)
    with prefect_server(folder) as api:
        server = Server(folder, api)
        server.cli("work-pool", "create", "local-process", "--type", "process")
        server.cli("--no-prompt", "deploy", "--all")
        # no worker before this is so: it would run the pipeline of another folder
        places = [
            d["pull_steps"][0]["prefect.deployments.steps.set_working_directory"]
            for d in server.ask("deployments/filter", {})
        ]
        assert places == [{"directory": str(folder)}] * len(deployments())
        yield server


@pytest.fixture
def empty(server) -> Server:
    """The server with the runs of earlier tests left aside, and no mark in its folder."""
    server.earlier |= {run["id"] for run in server.runs()}
    for name in ("bad", "told", "started"):
        (server.folder / name).unlink(missing_ok=True)
    return server


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A listener on this machine: its URL, and what arrived."""
    arrived: list[dict[str, Any]] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self):
            arrived.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words):
            pass

    with HTTPServer(("127.0.0.1", 0), Listener) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listener.server_port}/hook", arrived
        listener.shutdown()
        thread.join()


def wait(until, seconds: float = 60):
    """What `until` gives as soon as it gives something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := until():
            return found
        time.sleep(0.5)
    pytest.fail(f"not within {seconds} s")


def test_every_deployment_names_a_flow_that_is_there_and_one_pool():
    assert set(deployments()) == {"nightly", "promote"}
    for deployment in deployments().values():
        module, _, name = deployment["entrypoint"].rpartition(".")
        assert f"\ndef {name}(" in (ROOT / f"{module.replace('.', '/')}.py").read_text()
        assert deployment["work_pool"] == {"name": "local-process"}
        assert "fedsynth" in deployment["tags"], "flows/notify.py looks for this tag"
        assert "parameters" not in deployment, "what is computed stands in params.yaml"


def test_no_path_of_one_machine_stands_in_the_deployments():
    assert not re.search(r"(?m)(^|[\s:\"'])/\w", re.sub(r"(?m)#.*", "", (ROOT / "prefect.yaml").read_text()))


@pytest.mark.production
def test_runs_start_in_the_folder_of_the_deployment_whatever_the_shell_calls_its_own(server):
    for deployment in server.ask("deployments/filter", {}):
        assert deployment["pull_steps"] == [
            {"prefect.deployments.steps.set_working_directory": {"directory": str(server.folder)}}
        ]


def test_the_flows_take_what_a_schedule_and_a_person_can_give():
    from flows.pipeline import pipeline
    from flows.promote import promote

    assert all(p.default == "" for p in inspect.signature(pipeline.fn).parameters.values()), "a schedule gives none"
    needed = [n for n, p in inspect.signature(promote.fn).parameters.items() if p.default is p.empty]
    assert needed == ["model"]


@pytest.mark.production
def test_of_runs_that_were_missed_one_is_run_and_the_others_are_cancelled_and_so_is_one_that_falls_due_meanwhile(empty):
    for ago_s in (300, 200, 100):
        empty.due(ago_s)
    with empty.worker():
        running = wait(lambda: empty.runs("Running"))
        empty.due(0)
        wait(lambda: len(empty.runs("Cancelled")) == 3)
        wait(lambda: empty.runs("Completed"))
    assert len(running) == 1
    states = [(r["state"]["name"], r["state"]["message"]) for r in empty.runs()]
    assert sorted(name for name, _ in states) == ["Cancelled", "Cancelled", "Cancelled", "Completed"]
    assert {message for name, message in states if name == "Cancelled"} == {"Deployment concurrency limit reached."}
    assert (empty.folder / "started").read_text() == "x"


@pytest.mark.production
def test_a_run_that_fails_calls_the_webhook_once_and_does_not_say_what_may_not_leave(empty, webhook):
    url, arrived = webhook
    for _ in range(2):  # a second time renews and adds nothing
        done = command(sys.executable, "-m", "flows.notify", url, cwd=ROOT, PREFECT_API_URL=empty.api)
        assert done.returncode == 0, done.stdout
    (empty.folder / "bad").touch()
    with empty.worker():
        empty.due(0)
        failed = wait(lambda: empty.runs("Failed"))[0]
        wait(lambda: [a for a in arrived if "is Failed" in a["text"]])
        time.sleep(2)  # for a second message, which must not come
        [message] = [a["text"] for a in arrived if "is Failed" in a["text"]]
        who = "concerns: the centre's engineer"
        assert message == f"fedsynth: the run {failed['name']} of pipeline is Failed; {who}: {failed['id']}"
        assert "scan_0042" in failed["state"]["message"], "the reason is on the server"

        # a reason in words of a closed list is said, and whom it concerns
        (empty.folder / "bad").unlink()
        (empty.folder / "told").touch()
        empty.due(0)
        said = "fedsynth: nightly of busi failed: train@vae, site north died; concerns: north's data manager"
        wait(lambda: [a for a in arrived if a["text"].startswith(f"{said}: ")])


@pytest.mark.parametrize("url", ["ftp://host/x", "https://", "hook"])
def test_an_address_that_is_none_is_refused(url):
    from flows.notify import NotifyError, install

    with pytest.raises(NotifyError, match="must begin with http:// or https:// and name a host"):
        install(url)


@pytest.mark.production
@pytest.mark.xfail(
    version("sqlalchemy") >= "2.1",
    reason="with SQLAlchemy 2.1 the scheduler of Prefect 3.8.8 makes no runs: pin sqlalchemy<2.1",
    strict=True,
)
def test_the_schedule_makes_runs_at_two_in_the_morning(server):
    due = wait(lambda: server.runs("Scheduled"), 20)
    assert all("T02:00:00" in run["expected_start_time"] for run in due)
