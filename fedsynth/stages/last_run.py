"""The record of the last run, .work/run.json: the flow writes it while it runs, `fedsynth metrics` and others read it.

Keys: `name`, `deployment`, `experiment`, `pid`, `began`, `ended` and `succeeded` (seconds since 1970, the last one of
the newest run without a failure), `outcome` (running, completed, failed, cancelled), `said` (why it failed, in a
sentence that names no file), `stages` (address -> {state, seconds, began}), `rounds` (stage -> [done, of]), `sites`
(those of the last round that was answered) and `left_out` (site -> why, in that round).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import psutil

from fedsynth.errors import UserError

FILE = Path(".work") / "run.json"
RUNNING, COMPLETED, FAILED, CANCELLED, CRASHED = OUTCOMES = ("running", "completed", "failed", "cancelled", "crashed")
WAITING = "waiting"  # state of a stage that is to run; while it does it is RUNNING, then its state is the outcome


def write(root: Path, content: dict[str, Any]) -> None:
    path = root / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")  # readers must not see half a file
    part.write_text(json.dumps(content, indent=1), encoding="utf-8")
    part.replace(path)


def read(root: Path) -> dict[str, Any]:
    """Return the record, {} before the first run.

    A run whose process is gone without an end has crashed: by force, or with its machine.
    """
    try:
        found: dict[str, Any] = json.loads((root / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    if found["outcome"] == RUNNING and not _lives(found["pid"], found["began"]):
        found["outcome"] = CRASHED
    return found


def alone(root: Path, experiment: str = "") -> None:
    """Raise UserError where a run is going on in the same place: DVC has one writer for a folder.

    `experiment`: the name of the one that is to run, which has a place of its own; "" for the study itself.
    """
    told = read(root)
    if told.get("outcome") == RUNNING and told["experiment"] == experiment and told["pid"] != os.getpid():
        what = f"the experiment {experiment}" if experiment else "a run"
        raise UserError(
            f"{what} is going on in {root} (process {told['pid']}); `fedsynth status` says how far it is. Start again"
            " once it has ended"
        )


def _lives(pid: int, began: float) -> bool:
    """Return whether a process lives that was there when the run began: the number may be another one's by now."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= began + 1
    except psutil.NoSuchProcess:
        return False
