"""Finds and ends processes by a mark in their environment, whoever their parent is."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from typing import Any

import psutil

OWNER = "FEDSYNTH_OWNER"  # process id of the flow that a stage belongs to
LOOK_S, KILL_S = 0.2, 9.0  # between two looks; for how long what starts anew is killed again


def threads(processes: int) -> str:
    """For each of so many processes that compute at once: more threads than cores only wait for each other."""
    return str(max(1, (os.cpu_count() or 1) // processes))


class Orphaned(BaseException):
    """The flow that this stage belongs to is gone: it was killed. No Exception, so that nobody takes it for a stage's
    own failure.
    """


def mind_owner() -> None:
    """Raise Orphaned in the main thread once the process that OWNER names is gone. Nothing where there is no such
    variable.
    """
    owner = int(os.environ.get(OWNER) or 0)
    if not owner:
        return

    def orphaned(number: int, frame: Any) -> None:
        raise Orphaned

    def look() -> None:
        while _lives(owner):
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGUSR1)  # the one way into the main thread

    signal.signal(signal.SIGUSR1, orphaned)
    threading.Thread(target=look, daemon=True).start()


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def marked(name: str, value: str) -> list[psutil.Process]:
    """Living processes whose environment holds `name`=`value`, this one left out."""
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.pid != os.getpid()
                and process.status() != psutil.STATUS_ZOMBIE
                and process.environ().get(name) == value
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


def end(name: str, value: str, patience_s: float = 0) -> None:
    """Wait up to `patience_s` for the marked processes to end by themselves, then kill what is left and what it started
    meanwhile.

    Nothing here waits *for* a process (psutil's waiting would take the exit code of a child away from the one who
    started it: an ended stage then looks like a finished one).
    """
    deadline = time.monotonic() + patience_s
    while (left := marked(name, value)) and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    deadline = time.monotonic() + KILL_S
    while left and time.monotonic() < deadline:
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(LOOK_S)
        left = marked(name, value)
