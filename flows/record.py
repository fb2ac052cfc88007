"""Keeps the record of a run (fedsynth/stages/last_run.py) up to date while it runs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fedsynth.stages import last_run


class Record:
    """The record of one run, written at every change. Thread safe, because stages run concurrently.

    `root`: the study's folder, also where the run is an experiment in a workspace of its own.
    """

    def __init__(self, root: Path, name: str = "", deployment: str = ""):
        self.root = root
        self._lock = threading.Lock()
        self._now: dict[str, Any] = {
            "name": name, "deployment": deployment, "experiment": "", "pid": os.getpid(),
            "began": time.time(), "ended": None, "succeeded": last_run.read(root).get("succeeded"),
            "outcome": last_run.RUNNING, "said": "", "stages": {}, "rounds": {}, "sites": [], "left_out": {},
        }  # fmt: skip

    def of(self, experiment: str) -> None:
        """Take the name of the experiment that the run is, "" if it is none."""
        with self._lock:
            self._now["experiment"] = experiment
            self._write()

    def wait(self, stages: Iterable[str]) -> None:
        """Take the stages that are to run."""
        with self._lock:
            self._now["stages"] |= {stage: {"state": last_run.WAITING} for stage in stages}
            self._write()

    def start(self, stage: str) -> None:
        with self._lock:
            self._now["stages"][stage] = {"state": last_run.RUNNING, "began": time.time()}
            self._write()

    def round(self, stage: str, event: dict[str, Any]) -> None:
        with self._lock:
            self._now["rounds"][stage] = [event["round"] + 1, event["rounds"]]
            self._now |= {"sites": sorted(event["sites"]), "left_out": dict(event.get("left_out", {}))}
            self._write()

    def stage(self, stage: str, outcome: str, seconds: float) -> None:
        with self._lock:
            self._now["stages"][stage] = {"state": outcome, "seconds": round(seconds, 1)}
            self._write()

    def end(self, outcome: str, said: str = "") -> None:
        with self._lock:
            self._now |= {"ended": time.time(), "outcome": outcome, "said": said}
            if outcome == last_run.COMPLETED:
                self._now["succeeded"] = self._now["ended"]
            self._write()

    def _write(self) -> None:
        last_run.write(self.root, self._now)
