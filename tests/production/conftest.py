"""Provisioned federations on loopback for the tests of this folder, and the table of failures that they measure."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from fedsynth import processes
from fedsynth.settings import Settings
from nvflare_jobs.centre import job_folder
from nvflare_jobs.federation import local_system, runner
from nvflare_jobs.federation.interface import Event, FederationError

SITES = ["east", "north", "west"]
TIMES = pytest.StashKey[list]()


@dataclass
class Trial:
    """A federation for one test: its system, its folders, what the centre saw and when."""

    root: Path
    system: local_system.LocalSystem
    sites: list[str]
    seen: list[Event] = field(default_factory=list)

    def settings(self, **more: Any) -> Settings:
        given = {"kit": self.system.admin, "connect_s": 20.0, "stall_s": 90.0} | more
        return Settings(
            "production", self.root, self.root / "data", self.root / "state", given.pop("stall_s"), False, **given
        )

    def all_connected(self) -> None:
        """Wait until the server sees every site: with a quorum below their number, a job does not wait for the rest."""
        with runner.connect(self.settings(), self.root / "look") as connected:
            while len(connected.sites()) < len(self.sites):  # pytest's timeout ends it
                time.sleep(0.5)

    def run(
        self, job: Path, on_event: Callable[[Event], None] = lambda event: None, work: str = "work", **more: Any
    ) -> Path:
        """As the centre runs a job; `on_event` may do harm."""

        def show(event: Event) -> None:
            self.seen.append(event)
            on_event(event)

        with runner.connect(self.settings(**more), self.root / work) as connected:
            return runner.run(connected, job, job_folder.token(job), self.sites, self.root / work / "result", show)

    def fails(self, job: Path, on_event: Callable[[Event], None] = lambda event: None, **more: Any) -> str:
        with pytest.raises(FederationError) as error:
            self.run(job, on_event, **more)
        assert "\n" not in str(error.value)
        return str(error.value)

    def rounds(self) -> list[Event]:
        return [event for event in self.seen if event.kind == "round"]

    def state(self, site: str) -> Path:
        return self.root / "places" / site / "state"


@contextmanager
def started(root: Path, sites: list[str], **options: Any) -> Iterator[Trial]:
    places = {}
    for name in ("localhost", *sites):
        folder = root / "places" / name
        places[name] = {"FEDSYNTH_DATA": str(folder / "data"), "FEDSYNTH_STATE": str(folder / "state")}
    system = local_system.LocalSystem(root / "system", sites, places, **options)
    system.provision()
    try:
        system.start()
        yield Trial(root, system, sites)
    finally:
        system.stop()
        assert left(system.mark) == []


def left(mark: str) -> list[list[str]]:
    """Command lines of what is left of a system."""
    found = []
    for process in processes.marked(local_system.MARK, mark):
        with suppress(psutil.Error):
            found.append(process.cmdline())
    return found


@pytest.fixture
def trial(tmp_path) -> Iterator[Trial]:
    """Three sites, whose loss the server sees within about 15 s."""
    with started(tmp_path, SITES, heart_beat_s=15) as made:
        yield made


@pytest.fixture
def measured(request) -> Callable[..., None]:
    """Put a line into the table of failures: what happened, what the user sees, how long it took."""

    def put(what: str, said: str, seconds: float) -> None:
        request.config.stash.setdefault(TIMES, []).append({"what": what, "said": said, "seconds": round(seconds, 1)})

    return put


def pytest_terminal_summary(terminalreporter, config) -> None:
    rows = config.stash.get(TIMES, [])
    if rows:
        terminalreporter.section("failures, as measured")
        for row in rows:
            terminalreporter.line(f"{row['seconds']:6.1f} s  {row['what']}: {row['said']}")
        path = Path(config.rootpath) / ".work" / "failures.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(rows, indent=1))


class Watch:
    """Does something once, when a condition first holds, and measures from then on."""

    def __init__(self, when: Callable[[Event], bool], do: Callable[[], None]):
        self.when, self.do, self.began = when, do, 0.0

    def __call__(self, event: Event) -> None:
        if not self.began and self.when(event):
            self.began = time.monotonic()
            self.do()

    def seconds(self) -> float:
        assert self.began, "what was to happen did not"
        return time.monotonic() - self.began
