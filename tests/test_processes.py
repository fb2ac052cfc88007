"""Processes of a run are found by their mark and ended, and those who started them still learn how they ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid

from fedsynth import processes

NAME = "FEDSYNTH_TEST_MARK"


def start(script: str, mark: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", script], env=os.environ | {NAME: mark}, stdout=subprocess.PIPE, text=True
    )


def test_a_process_and_what_it_started_are_ended_and_its_parent_learns_of_it():
    mark = uuid.uuid4().hex
    nested = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); print('up',"
        " flush=True)"
    )
    process = start(f"{nested}; import time; time.sleep(60)", mark)
    assert process.stdout.readline() == "up\n"
    assert len(processes.marked(NAME, mark)) == 2
    processes.end(NAME, mark)
    assert processes.marked(NAME, mark) == []
    assert process.wait() == -9  # and not 0, as if its work were done


def test_one_that_ends_by_itself_is_given_its_time():
    mark = uuid.uuid4().hex
    process = start("print('up', flush=True); import time; time.sleep(1); raise SystemExit(3)", mark)
    assert process.stdout.readline() == "up\n"
    started = time.monotonic()
    processes.end(NAME, mark, patience_s=20)
    assert time.monotonic() - started < 15
    assert process.wait() == 3


def test_others_are_left_alone():
    mark = uuid.uuid4().hex
    process = start("import time; time.sleep(60)", mark)
    try:
        processes.end(NAME, uuid.uuid4().hex)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
