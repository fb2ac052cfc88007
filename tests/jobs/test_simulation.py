"""The simulator's sites start at once, and each process is told its own name."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import pytest
from nvflare.private.fed.app.simulator import simulator_runner
from nvflare.private.fed.simulator.simulator_const import SimulatorConstants

from nvflare_jobs.federation.simulation import START_S, Clients, Ports
from nvflare_jobs.federation.simulator import _Run

SITES = ["east", "north"]


class Cell:
    def get_root_url_for_child(self) -> str:
        return "tcp://localhost:1"

    def get_internal_listener_url(self) -> str:
        return "tcp://localhost:2"


class Process:
    """Of a site: it lives and does nothing."""

    returncode = None

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def poll(self) -> None:
        return None

    def terminate(self) -> None:
        pass

    def wait(self, timeout: float) -> None:
        pass


class Connection:
    """To a site's process: it keeps what is sent, and then breaks."""

    def __init__(self, sent: list[dict[str, Any]]):
        self.sent = sent

    def send(self, data: dict[str, Any]) -> None:
        self.sent.append({key: dict(of) if isinstance(of, dict) else of for key, of in data.items()})

    def recv(self) -> None:
        raise EOFError


class Deployed(Namespace):
    """Arguments that FLARE copies after it has written a site's name down and before it sends it."""

    def __init__(self, both: Barrier | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.both = both

    def __deepcopy__(self, memo: dict[int, Any]) -> Deployed:
        if self.both is not None:
            self.both.wait(timeout=10)
        return Deployed(workspace=self.workspace)


def names_told(
    runner: type[simulator_runner.SimulatorClientRunner], work: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Site -> the name that its process was told, where all sites' threads write before any of them sends."""
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(simulator_runner.subprocess, "Popen", Process)
    monkeypatch.setattr(runner, "_create_connection", lambda *_, **__: Connection(sent))
    clients = [Namespace(client_name=site, token="", cell=Cell()) for site in SITES]
    for site in SITES:
        for folder in ("startup", "local"):
            (work / site / folder).mkdir(parents=True)
    args = Namespace(workspace=str(work), set=[], log_config="concise")
    deployed = Deployed(Barrier(len(SITES)), workspace=str(work))
    made = runner(str(work / "custom"), args, clients, {}, deployed, {"client_name": ""})
    with ThreadPoolExecutor(len(SITES)) as pool:
        list(pool.map(lambda client: made.do_one_task(client, len(SITES), None, Lock()), clients))
    told = {data[SimulatorConstants.DEPLOY_ARGS].workspace: data[SimulatorConstants.BUILD_CTX] for data in sent}
    return {site: told[str(work / site)]["client_name"] for site in SITES}


def test_two_sites_that_start_at_once_are_told_their_own_names(tmp_path, monkeypatch):
    assert names_told(Clients, tmp_path, monkeypatch) == {"east": "east", "north": "north"}


def test_flares_own_class_still_mixes_them_up(tmp_path, monkeypatch):
    """Once it does not, nvflare_jobs/federation/simulation.py is not needed for that any more."""
    assert len(set(names_told(simulator_runner.SimulatorClientRunner, tmp_path, monkeypatch).values())) == 1


def test_no_port_is_given_twice(monkeypatch):
    free = iter([5, 5, 5, 6, 6, 7])
    monkeypatch.setattr(simulator_runner, "get_open_ports", lambda number: [next(free) for _ in range(number)])
    ports = Ports()
    assert [ports(1), ports(1), ports(1)] == [[5], [6], [7]]


def test_a_site_has_longer_to_start_than_flare_gives_it(tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(
        simulator_runner.SimulatorClientRunner, "do_one_task", lambda *_, **given: waited.append(given["timeout"])
    )
    clients = object.__new__(Clients)
    clients.build_ctx = {}
    clients.do_one_task(None, timeout=60.0)
    assert waited == [START_S]


class Ended:
    """Of a site: psutil still has it for running, and then it is gone, as a process may end between two questions."""

    def __init__(self, pid: int):
        self.pid = pid

    def is_running(self) -> bool:
        return True


@pytest.mark.parametrize("simulator", ["lives", "has ended as well"])
def test_a_process_that_ends_while_it_is_looked_at_has_died_and_raises_nothing(tmp_path, simulator):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    of = Namespace(poll=lambda: None, pid=os.getpid() if simulator == "lives" else gone.pid)
    run = _Run(of, "mark", tmp_path, SITES, 2, tmp_path)
    run._workers["east"] = Ended(gone.pid)
    assert run._dead_site() == ""  # at the end of a good run the sites exit first
    run._missed["east"] -= 4
    assert run._dead_site() == "east"
