"""Lineage names the code, the data and DVC's outputs, and says "none" for what is not there."""

from __future__ import annotations

import hashlib
import json
import subprocess

import pytest

from fedsynth.params import names
from fedsynth.registry.lineage import key, lineage

LOCK = """\
schema: '2.0'
stages:
  ingest:
    cmd: fedsynth ingest
    outs:
    - {path: data/sites, hash: md5, md5: 0a.dir, size: 10, nfiles: 2}
  train@vae:
    cmd: train vae
    deps:
    - {path: data/sites, hash: md5, md5: 0a.dir}
    outs:
    - {path: models/vae, hash: md5, md5: 1b.dir}
  report:
    cmd: report
    outs:
    - {path: reports/report, hash: md5, md5: 2c.dir}
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in ("DVC_EXP_NAME", "GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(tmp_path):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "code.py").write_text("a = 1\n")
    (tmp_path / "dvc.lock").write_text(LOCK)
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first")
    return tmp_path


def git(folder, *arguments):
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_commit_is_named_and_clean(project):
    tags = lineage(project)
    assert tags["git.commit"] == git(project, "rev-parse", "HEAD")
    assert tags["git.dirty"] == "false"


@pytest.mark.parametrize(("file", "dirty"), [("code.py", "true"), ("new.py", "true"), ("dvc.lock", "false")])
def test_changed_and_new_files_are_dirty_but_dvc_lock_which_each_run_writes_is_not(project, file, dirty):
    (project / file).write_text(LOCK + "# changed\n")
    assert lineage(project)["git.dirty"] == dirty


def test_dvc_lock_and_the_outputs_under_data_and_models_are_named(project):
    tags = lineage(project)
    assert tags["dvc.lock"] == hashlib.md5(LOCK.encode()).hexdigest()
    assert {k: v for k, v in tags.items() if k.startswith("dvc.out")} == {
        "dvc.out.data/sites": "0a.dir",
        "dvc.out.models/vae": "1b.dir",
    }


def test_the_sites_digests_come_from_the_validation(project):
    (project / "reports").mkdir()
    sites = {
        "north": {"passed": True, "digest": "n1"},
        "east": {"passed": False, "digest": "e1"},
        "sea@x": {"passed": True, "digest": "s1"},
    }
    (project / "reports" / "validation.json").write_text(json.dumps({"sites": sites, "used": ["north", "sea@x"]}))
    tags = lineage(project)
    assert tags["data.used"] == "north,sea@x"
    of_sea = f"data.digest.{names.key('sea@x')}"
    assert (tags["data.digest.north"], tags["data.digest.east"], tags[of_sea]) == ("n1", "e1", "s1")


def test_a_dvc_experiment_is_named_where_there_is_one(project, monkeypatch):
    assert "dvc.exp" not in lineage(project)
    monkeypatch.setenv("DVC_EXP_NAME", "brave-bee")
    assert lineage(project)["dvc.exp"] == "brave-bee"


def test_what_is_absent_says_none(tmp_path, monkeypatch):
    absent = {"git.commit": "none", "git.dirty": "none", "dvc.lock": "none", "data.used": "none"}
    assert lineage(tmp_path) == absent
    monkeypatch.setenv("PATH", "")  # no git either
    assert lineage(tmp_path) == absent


def test_an_empty_dvc_lock_has_no_outputs(tmp_path):
    (tmp_path / "dvc.lock").write_text("")
    assert lineage(tmp_path)["dvc.lock"] == hashlib.md5(b"").hexdigest()


def test_keys_hold_only_what_a_tracking_server_takes():
    assert key("a/b.c-d_e: 1") == "a/b.c-d_e: 1"
    assert key("train@vae+x") == "train_vae_x"
