"""Who has sent a job is read from what FLARE has written down at the site."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from nvflare_jobs.site import submitter


@pytest.fixture
def started(monkeypatch):
    def as_(*words: str) -> None:
        process = SimpleNamespace(cmdline=lambda: list(words))
        monkeypatch.setattr(submitter.psutil, "Process", lambda: process)

    return as_


def test_the_submitter_of_the_process_job_is_named(tmp_path, started):
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc" / "meta.json").write_text(json.dumps({"submitter_name": "lead@centre.org"}))
    started("python", "-u", "-m", "nvflare.worker", "-m", str(tmp_path), "-w", "startup", "-n", "abc", "-c", "north")
    assert submitter.of_job() == ("abc", "lead@centre.org")


@pytest.mark.parametrize(
    "words", [(), ("python", "-m", "pytest"), ("python", "-m", "x", "-m", "/nowhere", "-n", "abc")]
)
def test_where_flare_does_not_say_nobody_is_named(started, words):
    started(*words)
    assert submitter.of_job()[1] == ""
