"""Where one of several processes that train together ends, so does the round, with a reason and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from fedsynth.hospital import failures
from fedsynth.training.group import RankDied, shared
from fedsynth.training.trainer import Trainer
from tests import toys
from tests.training.test_group import STALL_S, children, rounds, what
from tests.training.test_trainer import initial


def test_a_process_that_is_killed_ends_the_round_within_seconds_and_leaves_none_behind():
    made = what(toys.Slow(), local_steps=200)
    with shared(made, None, 2, STALL_S) as group:
        (other,) = children()
        threading.Timer(1.5, lambda: os.kill(other.pid, signal.SIGKILL)).start()
        began = time.monotonic()
        with pytest.raises(RankDied) as error:
            a_round(made, group)
    assert time.monotonic() - began < 1.5 + 15
    assert "process 2 of the 2 that train together" in str(error.value)
    assert "was killed by signal 9 (out of memory?)" in str(error.value)
    assert failures.word(error.value) == "rank"
    assert children() == []


def a_round(made, group):
    t = Trainer(**made, group=group)
    t.round(initial(t), 0)


def test_what_a_process_fails_of_is_said():
    with pytest.raises(RankDied) as error:
        rounds(what(toys.Failing()), 2)
    assert str(error.value).endswith("ended with exit code 1: MemoryError: no room for 4 GB")
    assert children() == []


def test_what_cannot_start_is_said_and_nothing_is_left(monkeypatch):
    monkeypatch.setattr("fedsynth.training.group.Leader._tell", lambda self, other, what: other.stdin.close())
    with pytest.raises(RankDied, match="process 2 of the 2"):
        rounds(what(toys.Plain()), 2)
    assert children() == []


def test_when_the_sites_own_process_is_gone_so_are_the_others():
    code = (
        "import os, signal; from tests.training import test_group as t; made = t.what(t.toys.Plain());"
        " group = t.shared(made, None, 2, 60.0); group.__enter__();"
        " print([of.pid for of in t.children()], flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    pids = json.loads(done.stdout)
    assert len(pids) == 1, done.stderr
    until = time.monotonic() + 15
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(psutil.pid_exists(pid) for pid in pids)
