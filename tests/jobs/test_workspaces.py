"""Folders of earlier jobs at a site go, but the newest of each stage, those of running jobs, and those of others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nvflare_jobs.site import workspaces


@pytest.fixture
def kit(tmp_path, monkeypatch) -> Path:
    """Where FLARE's client works at a site; this process is one of its jobs'."""
    (tmp_path / "startup").mkdir()
    monkeypatch.setattr(workspaces, "of_process", lambda: (str(tmp_path), "newest"))
    return tmp_path


def left(kit: Path, job: str, name: str, age: int) -> Path:
    folder = kit / job
    folder.mkdir()
    (folder / "meta.json").write_text(json.dumps({"job_id": job, "name": name}))
    (folder / "log.txt").write_text("row 7 of p-017.png")
    os.utime(folder, (1e9 - age,) * 2)
    return folder


def test_folders_of_each_stage_go_but_the_newest(kit):
    old = [left(kit, f"{stage}{n}", f"{stage}-{n:016x}", n) for stage in ("validate", "train_vae") for n in (2, 3)]
    kept = [left(kit, f"{stage}{n}", f"{stage}-{n:016x}", n) for stage in ("validate", "train_vae") for n in (0, 1)]
    workspaces.prune(2)
    assert not any(folder.exists() for folder in old)
    assert all((folder / "log.txt").is_file() for folder in kept)
    assert (kit / "startup").is_dir()


def test_what_is_no_job_of_ours_stays(kit):
    left(kit, "newest", f"validate-{0:016x}", 0)
    others = [left(kit, "another program's", "hello-numpy", 9), left(kit, "copied", f"validate-{1:016x}", 9)]
    (others[1] / "meta.json").write_text(json.dumps({"job_id": "of another folder", "name": f"validate-{1:016x}"}))
    workspaces.prune(1)
    assert all(folder.is_dir() for folder in others)


def test_the_folder_of_a_job_that_still_runs_stays(kit):
    left(kit, "newest", f"train_vae-{0:016x}", 0)
    folder = left(kit, "0c8a6f2e-still-running", f"train_vae-{1:016x}", 9)
    code = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, "-n", folder.name], stdin=subprocess.PIPE) as job:
        workspaces.prune(1)
        assert folder.is_dir()
        job.communicate(b"")
    workspaces.prune(1)
    assert not folder.exists()


def test_in_the_simulator_nothing_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(workspaces, "of_process", lambda: ("", ""))
    monkeypatch.chdir(tmp_path)
    folder = left(tmp_path, "old", f"train_vae-{1:016x}", 9)
    left(tmp_path, "new", f"train_vae-{0:016x}", 0)
    workspaces.prune(1)
    assert folder.is_dir()
