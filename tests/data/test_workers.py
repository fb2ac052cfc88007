"""Work in several processes gives what one process gives, in its order, and ends with a reason whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest

from fedsynth.data import workers
from fedsynth.data.workers import KilledError, mapped
from fedsynth.errors import UserError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Processes are started after the first task."""
    monkeypatch.setattr(workers, "SOON_S", -1)


@pytest.fixture
def started():
    """The processes that a test has started and that are there; earlier tests may have left some for the session."""
    before = {process.pid for process in psutil.Process().children()}
    return lambda: [process for process in psutil.Process().children() if process.pid not in before]


def uneven(task):
    """Several results of a task, which take the longer the earlier it comes; who has done it."""
    time.sleep(0.02 * (task % 3 == 0))
    for part in range(task % 4):
        yield task, part, os.getpid()


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_results_come_in_the_order_of_the_tasks(processes):
    found = list(mapped(uneven, range(40), processes))
    assert [of[:2] for of in found] == [of[:2] for task in range(40) for of in uneven(task)]
    others = {pid for task, _, pid in found if task} - {os.getpid()}
    assert len(others) == (processes if processes > 1 else 0)


def test_what_is_done_soon_starts_no_process(monkeypatch):
    monkeypatch.setattr(workers, "SOON_S", 60)
    assert {pid for *_, pid in mapped(uneven, range(10), 4)} == {os.getpid()}
    assert list(mapped(uneven, [], 4)) == []


def test_results_that_wait_are_bounded(monkeypatch):
    """The first task is slow; the others would all be done meanwhile."""
    monkeypatch.setattr(workers, "HELD", 10**6)
    begun = []

    def large(task):
        time.sleep(0.3 * (task == 1))
        for _ in range(5):
            yield np.full(10**5, task)  # 0.8 MB

    def tasks():
        for task in range(40):
            begun.append(task)
            yield task

    results = mapped(large, tasks(), 2)
    with closing(results):
        assert [next(results)[0] for _ in range(6)] == [0] * 5 + [1]
        assert len(begun) <= 2 + 2 * workers.AHEAD
        assert [of[0] for of in results] == [1] * 4 + [task for task in range(2, 40) for _ in range(5)]


class Odd(UserError):
    """An exception that pickle cannot make again."""

    def __init__(self, file, line):
        super().__init__(f"{file}: line {line}")


@pytest.mark.parametrize(("error", "kind", "says"), [
    (UserError("a.png cannot be read"), UserError, "^a.png cannot be read$"),
    (KeyError("subject"), KeyError, "subject"),
    (Odd("t.csv", 7), UserError, "^t.csv: line 7$"),
])  # fmt: skip
def test_an_exception_comes_in_its_turn(started, error, kind, says):
    def work(task):
        if task == 7:
            raise error
        yield task

    results = mapped(work, range(20), 2)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(kind, match=says):
        next(results)
    assert started() == []


def test_a_process_that_is_killed_ends_it_with_a_reason(started):
    def work(task):
        if task == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        yield task

    with pytest.raises(KilledError, match=r"ended from outside \(by signal 9") as error:
        list(mapped(work, range(20), 2))
    assert error.value.task == 5
    assert started() == []


def test_whoever_wants_no_more_leaves_no_process(started):
    with closing(mapped(uneven, range(1000), 3)) as results:
        next(results)
        while len(started()) < 3:
            next(results)
    assert started() == []


ENDLESS = """
import itertools, os, sys, time
from fedsynth.data import workers
workers.SOON_S = -1
def work(task):
    time.sleep(0.01)
    yield os.getpid()
for pid in workers.mapped(work, itertools.count(), 2):
    print(pid, flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_one_that_waits(how):
    """SIGINT as from a terminal: to all of its processes."""
    program = subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               cwd=Path(__file__).parents[2], start_new_session=True)  # fmt: skip
    assert program.stdout is not None
    pids = {int(program.stdout.readline()) for _ in range(20)} - {program.pid}
    assert len(pids) == 2
    (os.killpg if how == signal.SIGINT else os.kill)(program.pid, how)
    program.wait(10)
    deadline = time.monotonic() + 10
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, pids))
    assert program.returncode == (1 if how == signal.SIGINT else -how) or how == signal.SIGINT
