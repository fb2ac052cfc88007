"""NVFLARE's simulator: each site is a process of this machine.

Jobs run one at a time, each in a process session of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil

from fedsynth import processes
from fedsynth.hospital.policy import simulated
from fedsynth.hospital.withdrawals import RUN, RUNNING
from fedsynth.settings import Settings
from nvflare_jobs.federation.interface import Event, Federation, FederationError, JobLost, reason
from nvflare_jobs.federation.links import Links
from nvflare_jobs.federation.place import of_simulated
from nvflare_jobs.server import round_log

LOOK_S = 2.0  # seconds between two checks of the sites' processes
PROGRAM = "nvflare_jobs.federation.simulation"
ENDED = "End the Simulator run"  # nvflare 2.9, private/fed/app/simulator/simulator_worker.py


class Simulator(Federation):
    """Runs NVFLARE's simulator in a process session of its own, with each site as a process.

    FLARE's front end SimEnv blocks, cannot abort and hangs for ever when a site's process is killed. This class
    therefore watches processes and logs itself, and ends the whole process tree on any failure.
    """

    def __init__(self, settings: Settings, work: Path):
        self.settings = settings
        self.work = work.resolve()
        self._runs: dict[str, _Run] = {}
        self._links = Links()

    def sites(self) -> None:
        return None

    def submit(self, job: Path, token: str, sites: list[str]) -> str:
        if token in self._runs and self._runs[token].process.poll() is None:
            return token
        self._runs[token] = _Run.start(self.settings, job, self.work / token, sites, self._links)
        return token

    def follow(self, job_id: str) -> Iterator[Event]:
        run = self._runs[job_id]
        try:
            yield Event("status", "RUNNING")
            yield from run.watch(self.settings.stall_s)
        finally:
            run.kill()
        yield Event("status", "FINISHED:COMPLETED")

    def collect(self, job_id: str, dest: Path) -> Path:
        source = self._runs[job_id].server
        if not source.is_dir():
            raise FederationError(f"job {job_id} left no result; its log is {self._runs[job_id].log}")
        shutil.rmtree(dest, ignore_errors=True)
        shutil.copytree(source, dest)
        return dest

    def words(self, job_id: str) -> str:
        return reason(self._runs[job_id].logged(), own=True)

    def abort(self, job_id: str) -> None:
        self._runs[job_id].kill()

    def close(self) -> None:
        for run in self._runs.values():
            run.kill()
        self._links.close()


class _Run:
    """One simulator process, its site processes, its log and its round file."""

    def __init__(self, process: subprocess.Popen, mark: str, folder: Path, sites: list[str], enough: int, state: Path):
        self.process, self.mark, self.sites, self.enough = process, mark, sites, enough
        self.state, self.dead = state, ""
        self.log = folder / "log.txt"
        self.workspace = folder / "workspace"
        self.server = self.workspace / "server" / "simulate_job"
        self._workers: dict[str, psutil.Process] = {}
        self._missed: dict[str, float] = {}

    @classmethod
    def start(cls, settings: Settings, job: Path, folder: Path, sites: list[str], links: Links) -> _Run:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        mark = uuid.uuid4().hex
        threads = processes.threads(len(sites))
        simulated.write(settings.state, sites)
        place = of_simulated(settings, sites) | {RUN: mark}
        env = os.environ | place | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
        env["PYTHONIOENCODING"] = "utf-8:backslashreplace"
        command = [
            links.python(sys.executable, sys.prefix),
            "-m",
            PROGRAM,
            str(links.plain(job.absolute())),
            str(links.plain(folder) / "workspace"),
            ",".join(sites),
        ]
        with (folder / "log.txt").open("wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env, start_new_session=True, cwd=folder
            )
        return cls(
            process,
            mark,
            folder,
            sites,
            json.loads((job / "meta.json").read_text(encoding="utf-8"))["min_clients"],
            settings.state,
        )

    def watch(self, stall_s: float) -> Iterator[Event]:
        seen, size, last, looked = 0, 0, time.monotonic(), 0.0
        while True:
            code, over = self.process.poll(), self._is_over()  # before the rounds are read, so that none is missed
            events = self._rounds(seen)
            yield from events
            seen += len(events)
            grown = sum(p.stat().st_size for p in self._logs())
            if events or grown != size:
                size, last = grown, time.monotonic()
            if code is not None or over:
                break
            # listing processes reads all of /proc, so it is done rarely: it takes the sites' CPU time
            if time.monotonic() - looked > LOOK_S and (looked := time.monotonic()) and (dead := self._dead_site()):
                said = f"{self._raised() or f'site {dead} died (its process is gone)'}; the job was ended ({self.log})"
                self.dead = dead
                raise JobLost(said) if self.enough < len(self.sites) else FederationError(said)
            if time.monotonic() - last > stall_s:
                why = f"; {raised}" if (raised := self._raised()) else ""
                raise FederationError(
                    f"no sign of life for {stall_s:.0f} s, so the job was ended; set FEDSYNTH_STALL_S for longer ones"
                    f"{why} ({self.log})"
                )
            time.sleep(0.3)
        if not round_log.is_complete(self.server):
            raise FederationError(f"{self._raised() or f'the simulator ended with exit code {code}'} ({self.log})")

    def _is_over(self) -> bool:
        """Return whether the result is complete and every site has ended its part of the job.

        FLARE asks the sites to end when the server's controller has ended, and a site writes ENDED once its script and
        all components have. From then on FLARE only waits: some 4 s until its last process is gone.
        """
        return round_log.is_complete(self.server) and all(
            any(ENDED in line for line in _tail(self.workspace / site / "log.txt")) for site in self.sites
        )

    def _logs(self) -> list[Path]:
        return [self.log, *self.workspace.glob("*/log.txt"), *self.workspace.glob("*/*/log.txt")]

    def _rounds(self, seen: int) -> list[Event]:
        return [Event.of(record) for record in round_log.read(self.server / round_log.ROUNDS)[seen:]]

    def _dead_site(self) -> str:
        """Return a site whose process is gone while the simulator still waits for it (it would for ever), or ""."""
        for child in self._children():
            if child.pid not in {w.pid for w in self._workers.values()}:
                self._note(child)
        done = any("END_RUN" in line or ENDED in line for line in _tail(self.log))
        for site, worker in self._workers.items():
            gone = not (worker.is_running() and processes.lives(worker.pid))
            since = self._missed.setdefault(site, time.monotonic()) if gone else time.monotonic()
            # At the end of a good run the sites exit first: only one that exits long before the server has died.
            if gone and time.monotonic() - since > (15 if done else 3):
                return site
        return ""

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []
        except psutil.NoSuchProcess:  # it has ended since
            return []

    def _note(self, child: psutil.Process) -> None:
        try:
            command = child.cmdline()
        except psutil.Error:
            return
        if any("simulator_worker" in part for part in command) and "--client" in command:
            self._workers[command[command.index("--client") + 1]] = child

    def _raised(self) -> str:
        """Return the most specific error in the logs of sites and server, in one line."""
        return reason(self.logged())

    def logged(self) -> str:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in self._logs())

    def kill(self) -> None:
        """Kill every process of the run: all that carry its mark, wherever they were started."""
        running = self.process.poll() is None
        processes.end(RUN, self.mark)
        self.process.poll()
        for site in self.sites if running else []:
            if site != self.dead:  # these were killed here, so the next job must not count them as crashed
                for mark in (self.state / site / RUNNING).glob("*"):
                    if self.mark in mark.read_text(encoding="utf-8"):  # another job may be running at the site
                        mark.unlink()


def _tail(path: Path, size: int = 4000) -> list[str]:
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read().decode(errors="replace").splitlines()
