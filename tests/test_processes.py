"""Programs are in UTF-8 in every locale; processes are found by a mark and ended, and their exit codes stay known."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid

import pytest

from fedsynth import processes

NAME = "FEDSYNTH_TEST_MARK"
PROGRAM = (
    "import pathlib, sys\n"
    "from fedsynth.processes import in_utf8\n"
    "in_utf8()\n"
    "pathlib.Path('Bild-\u65e5\u672c.txt').write_text('gr\u00fcn', encoding='utf-8')\n"
    "print(sys.argv[1:], 'Z\u00fcrich \u65e5\u672c')\n"
)


def run_in(tmp_path, *arguments, **environment):
    """The output of a program in another locale, which writes a file and prints letters that the locale has not."""
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    plain = {name: of for name, of in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    path = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    done = subprocess.run([sys.executable, "program.py", *arguments], cwd=tmp_path, env=plain | path | environment,
                          capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert (tmp_path / "Bild-\u65e5\u672c.txt").read_text(encoding="utf-8") == "gr\u00fcn"
    return done.stdout


@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C"}, {"LC_ALL": "POSIX"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {}],
    ids=lambda of: ",".join(f"{name}={value}" for name, value in of.items()) or "none",
)
def test_a_program_is_in_utf8_in_every_locale(tmp_path, environment):
    """In a locale of another encoding files could not be opened, and printing their names ended the program."""
    said = run_in(tmp_path, "\u00e4 b", "--x", **environment)
    assert said.decode("utf-8") == "['\u00e4 b', '--x'] Z\u00fcrich \u65e5\u672c\n"


def test_letters_that_the_output_has_not_are_escapes(tmp_path):
    said = run_in(tmp_path, PYTHONIOENCODING="ISO-8859-1")
    assert said.decode("ISO-8859-1") == "[] Z\u00fcrich \\u65e5\\u672c\n"


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


def test_processes_share_the_threads_that_were_given_else_the_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [processes.threads(n) for n in (1, 3, 16)] == ["8", "2", "1"]
    monkeypatch.setenv("OMP_NUM_THREADS", "4")  # as a stage has it of which two run at once
    assert [processes.threads(n) for n in (1, 3)] == ["4", "1"]
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert processes.threads(2) == "4"
