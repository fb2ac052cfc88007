"""Processes: the encoding in which ours run, and finding and ending them by a mark in their environment."""

from __future__ import annotations

import codecs
import io
import locale
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import psutil

OWNER = "FEDSYNTH_OWNER"  # process id of the flow that runs the stage
LOOK_S, KILL_S = 0.2, 9.0  # seconds between two polls; seconds during which new processes are killed, too


def in_utf8() -> None:
    """Run this program in Python's UTF-8 mode, with all that it starts: call it first.

    In a locale of another encoding Python cannot open a file whose name the locale has no letters for. So the program
    is started again where that is so; the mode is chosen at its start.
    """
    again = sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1"
    os.environ["PYTHONUTF8"] = "1"
    if again:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    printable()


def printable() -> None:
    """Print letters that the terminal has not as escapes, instead of ending with an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=_of_terminal(stream), errors="backslashreplace")


def _of_terminal(stream: io.TextIOWrapper) -> str:
    """The locale's encoding for a terminal; files and pipes get UTF-8 unless PYTHONIOENCODING says another."""
    own = codecs.lookup(locale.getencoding()).name
    ours = stream.isatty() and own != "ascii" and not os.environ.get("PYTHONIOENCODING")
    return own if ours else stream.encoding


def threads(processes: int) -> str:
    """Return the number of threads, as text, for each of `processes` processes that compute at once.

    More threads than cores only wait for each other. A process that was given OMP_NUM_THREADS itself, as each of two
    stages that share the cores, divides these.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    return str(max(1, (int(given) if given.isdecimal() else os.cpu_count() or 1) // processes))


class Orphaned(BaseException):
    """The flow that this stage belongs to was killed.

    It is not an Exception, so that no handler takes it for a failure of the stage.
    """


def mind_owner() -> None:
    """Raise Orphaned in the main thread once the process named by OWNER has ended.

    Does nothing if the variable is not set.
    """
    owner = int(os.environ.get(OWNER) or 0)
    if not owner:
        return

    def orphaned(number: int, frame: Any) -> None:
        raise Orphaned

    def look() -> None:
        while lives(owner):
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGUSR1)  # only a signal interrupts the main thread

    signal.signal(signal.SIGUSR1, orphaned)
    threading.Thread(target=look, daemon=True).start()


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def marked(name: str, value: str) -> list[psutil.Process]:
    """Return the living processes whose environment has `name`=`value`, without the current process."""
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
    """Wait up to `patience_s` seconds for the marked processes to exit, then kill those that are left.

    Processes that they start meanwhile are killed, too. The processes are polled and not waited for: psutil's wait
    would take a child's exit code from the process that started it, and an aborted stage would look like a finished
    one.
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
