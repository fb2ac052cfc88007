"""Why a stage failed, in words, from what it printed."""

import json
import os

import pytest

from flows.dvcx import SYSTEM_CONFIG, BusyError, allow_no_git, graph, reason_of, status

DVC = "ERROR: failed to reproduce 'x': failed to run: fedsynth sample x, exited with 1"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["Running stage 'x':", "error: the site's own words", "  and more of them", DVC],
         "error: the site's own words\n  and more of them"),
        (["federation error: it was ended", DVC], "federation error: it was ended"),
        (["Traceback (most recent call last):", "ValueError: size 30 is odd", DVC], "ValueError: size 30 is odd"),
        (["a.b.SomeError: one", "During handling of the above exception", "torch.OutOfMemoryError: two", "", DVC],
         "torch.OutOfMemoryError: two"),
        (["all went well", DVC], ""),
        (["ERROR: output 'models/x' does not exist"], "ERROR: output 'models/x' does not exist"),
    ],
)  # fmt: skip
def test_the_stages_own_error_comes_first_then_the_last_line_of_a_traceback(lines, reason):
    assert reason_of(lines) == reason


def test_without_a_git_repository_dvc_works_by_a_setting_of_this_process_alone(tmp_path, monkeypatch):
    monkeypatch.setenv(SYSTEM_CONFIG, "")
    monkeypatch.delenv(SYSTEM_CONFIG)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "dvc.yaml").write_text("stages: {a: {cmd: echo a, outs: [a]}, b: {cmd: echo b, deps: [a]}}\n")
    with pytest.raises(Exception, match="not a git repository"):
        graph(tmp_path)
    assert "is in no git repository" in allow_no_git(tmp_path)
    assert graph(tmp_path) == {"a": [], "b": ["a"]}
    assert not (tmp_path / ".dvc" / "config.local").exists()


def test_where_dvc_is_at_work_its_process_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv(SYSTEM_CONFIG, raising=False)
    (tmp_path / "dvc.yaml").write_text("stages: {a: {cmd: echo a, outs: [a]}}\n")
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    allow_no_git(tmp_path)
    lock = {"write": {str(tmp_path / "a"): {"pid": os.getppid(), "cmd": "dvc repro a"}}}
    (tmp_path / ".dvc/tmp/rwlock").write_text(json.dumps(lock))
    with pytest.raises(BusyError, match=rf"DVC is at work in .*\(PID {os.getppid()}\): dvc repro a"):
        status(tmp_path)


def test_in_a_git_repository_nothing_is_set(tmp_path, monkeypatch):
    monkeypatch.setenv(SYSTEM_CONFIG, "")
    (tmp_path / ".git").mkdir()
    (tmp_path / "study").mkdir()
    assert allow_no_git(tmp_path / "study") == ""
    assert os.environ[SYSTEM_CONFIG] == ""
