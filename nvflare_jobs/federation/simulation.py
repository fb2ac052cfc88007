"""NVFLARE's simulator as a program, in which each site's process is told its own name: JOB WORKSPACE SITE,SITE."""

from __future__ import annotations

import copy
import sys
import threading
from typing import Any

from nvflare.fuel.utils.log_utils import LogMode
from nvflare.private.fed.app.simulator import simulator_runner
from nvflare.private.fed.app.simulator.simulator_runner import SimulatorClientRunner, SimulatorRunner

# seconds for a site's process to start; FLARE gives up after 60, and the job then waits for that site for ever
START_S = 600.0


class Ports:
    """Free ports of this machine, none of them twice: each site's process listens on one of its own.

    FLARE's threads ask the system at once, and the process that listens on a port starts seconds after it was found
    free: two sites can be given the same one, and one of them is then never spoken to.
    """

    def __init__(self) -> None:
        self._lock, self._given, self._ask = threading.Lock(), set[int](), simulator_runner.get_open_ports

    def __call__(self, number: int) -> list[int]:
        found: list[int] = []
        with self._lock:
            while len(found) < number:
                new = [port for port in self._ask(number - len(found)) if port not in self._given]
                found += new
                self._given.update(new)
        return found


class Clients(SimulatorClientRunner):
    """Starts and follows the sites' processes, each in a thread of its own.

    In nvflare 2.9 (private/fed/app/simulator/simulator_runner.py) these threads share the dict `build_ctx`: each writes
    its client's name into it, and sends it to its process. Where another thread writes in between, a process works in
    its site's folder under the name of another, and ends the job with "Can not find client.py". Here each thread has a
    dict of its own.
    """

    def do_one_task(self, client: Any, *args: Any, **kwargs: Any) -> Any:
        own = copy.copy(self)
        own.build_ctx = dict(self.build_ctx)
        return super(Clients, own).do_one_task(client, *args, **kwargs | {"timeout": START_S})


class Simulation(SimulatorRunner):
    """A job with one process for each site. FLARE's `run` would put the server into a process of its own, too."""

    def client_run(self, server_custom_folder: str, clients: list[Any], gpu: str | None) -> None:
        Clients(server_custom_folder, self.args, clients, self.client_config, self.deploy_args, self.build_ctx).run(gpu)


def main(job: str, workspace: str, sites: str) -> int:
    """Run a job to its end and return the exit code. `sites`: their names, joined by commas."""
    ended: dict[str, int] = {}
    simulator_runner.get_open_ports = Ports()
    threads = len(sites.split(","))
    Simulation(job, workspace, clients=sites, threads=threads, log_config=LogMode.CONCISE).run_process(ended)
    return ended["run_status"]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
