"""`fedsynth clean`: what is beyond the last runs goes, what a site must remember stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedsynth.__main__ import app
from fedsynth.hospital import states
from fedsynth.settings import Settings
from fedsynth.stages import last_run
from fedsynth.study import leftovers


@pytest.fixture
def study(tmp_path, monkeypatch) -> Path:
    for name in ("FEDSYNTH_ROOT", "FEDSYNTH_STATE", "FEDSYNTH_KEEP_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(path: Path, age: int, text: str = "x" * 1000) -> Path:
    """A file that was written `age` minutes ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    for of in (path, path.parent):
        os.utime(of, (1e9 - 60 * age,) * 2)
    return path


def state_of(folder: Path, model: str, number: int, age: int) -> Path:
    return written(folder / f"{model}{number:016x}.pt", age)


def test_states_of_each_model_go_but_the_newest(tmp_path):
    kept = [state_of(tmp_path / "train", model, n, n) for model in ("vae-", "vae-gan-") for n in range(2)]
    old = [state_of(tmp_path / "train", model, n, n) for model in ("vae-", "vae-gan-") for n in range(2, 5)]
    kept += [state_of(tmp_path / "reference", "", n, n) for n in range(2)]
    old.append(state_of(tmp_path / "reference", "", 9, 9))
    kept.append(written(tmp_path / "train/vae-00000000000000aa.global.safetensors", 99))
    kept.append(written(tmp_path / "ledger.jsonl", 99))
    kept.append(written(tmp_path / "answers/a.json", 99))
    assert sorted(states.replaced(tmp_path, 2)) == sorted(old)
    states.prune(tmp_path, 2)
    assert all(path.is_file() for path in kept)
    assert not any(path.exists() for path in old)


def test_working_folders_of_jobs_go_but_the_newest_of_each_stage(study):
    jobs = study / ".work/jobs"
    for stage in ("train-vae", "score-vae"):
        for n in range(4):
            written(jobs / stage / f"job{n}" / "log.txt", n)
    written(jobs / "train-vae/result/answers.json", 99)
    written(jobs / "train-vae-job/app/client.py", 99)
    found = leftovers.files(Settings.read(), 3)["work of earlier jobs"]
    assert sorted(path.relative_to(jobs).as_posix() for path in found) == ["score-vae/job3", "train-vae/job3"]


def test_workspaces_of_experiments_go_but_the_newest_of_ours(study):
    for n in range(4):
        written(study / ".work/experiments" / f"vae-rounds-{n}" / "params.yaml", n)
    written(study / ".dvc/tmp/exps/tmp1/params.yaml", 0)
    found = leftovers.files(Settings.read(), 3)["workspaces of experiments"]
    assert sorted(path.name for path in found) == ["tmp1", "vae-rounds-3"]


def test_a_run_removes_what_earlier_ones_have_left(study):
    (study / "params.yaml").write_text("keep_runs: 2\n")
    for n in range(5):
        written(study / f".work/jobs/train-vae/job{n}/log.txt", n)
        state_of(study / ".work/sites/north/train", "vae-", n, n)
    leftovers.bound(Settings.read())
    assert sorted(path.name for path in (study / ".work/jobs/train-vae").iterdir()) == ["job0", "job1"]
    assert len(list((study / ".work/sites/north/train").iterdir())) == 2


def test_a_file_with_two_links_counts_once(tmp_path):
    first = written(tmp_path / "a/first", 0)
    os.link(first, tmp_path / "a/second")
    assert leftovers.size([tmp_path / "a"]) == 1000


def cleaned(*words: str, said: str | None = None) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["clean", *words], input=said)
    return done.exit_code, done.output + (f"{done.exception}" if done.exception else "")


class TestCommand:
    @pytest.fixture
    def old(self, study) -> Path:
        for n in range(4):
            written(study / f".work/jobs/train-vae/job{n}/log.txt", n)
        return study / ".work/jobs/train-vae/job3"

    def test_it_says_how_much_first_and_asks(self, old):
        code, text = cleaned(said="n\n")
        assert (code, "0.0 MB  work of earlier jobs: 1" in text, old.exists()) == (0, True, True)
        assert cleaned(said="y\n")[0] == 0
        assert not old.exists()

    def test_a_program_is_told_and_nothing_is_deleted_without_yes(self, old):
        told = json.loads(cleaned("--json")[1])
        assert (told["keep"], told["deletes"], told["leftovers"][0]["paths"]) == (3, False, [str(old.resolve())])
        assert old.exists()
        assert json.loads(cleaned("--json", "--yes")[1])["deletes"]
        assert not old.exists()

    def test_how_many_are_kept_may_be_said(self, study, old, monkeypatch):
        monkeypatch.setenv("FEDSYNTH_KEEP_RUNS", "9")  # a site's own, which says nothing at the centre
        (study / "params.yaml").write_text("keep_runs: 4\n")
        assert json.loads(cleaned("--json")[1])["leftovers"] == []
        assert len(json.loads(cleaned("--json", "--keep", "1")[1])["leftovers"][0]["paths"]) == 3

    def test_during_a_run_nothing_is_deleted(self, study, old):
        last_run.write(study, {"outcome": "running", "pid": os.getpid(), "began": 4e9})
        assert "a run is going on" in cleaned("--yes")[1]
        assert old.exists()


@pytest.mark.pipeline
def test_data_of_commits_before_the_last_go_from_the_cache_of_dvc(study):
    pytest.importorskip("dvc", reason="DVC comes with the extra `centre`")
    if shutil.which("git") is None:
        pytest.skip("needs git")
    shell(study, "git init -q", f"{sys.executable} -m dvc init -q")
    stage = "stages:\n  made:\n    cmd: cp told.txt made.txt\n    deps: [told.txt]\n    outs: [made.txt]\n"
    (study / "dvc.yaml").write_text(stage)
    (study / "params.yaml").write_text("")
    for text in ("one", "two", "three"):
        (study / "told.txt").write_text(text * 100)
        shell(study, f"{sys.executable} -m dvc repro -q", "git add -A", f"{COMMIT} {text}")
    (data,) = leftovers.leftovers(Settings.read(), 2)
    assert (data.what, len(data.paths), data.size) == (leftovers.DATA, 1, 300)
    leftovers.remove(data, study, 2)
    assert leftovers.leftovers(Settings.read(), 2) == []
    assert not data.paths[0].exists()
    assert (study / "made.txt").read_text() == "three" * 100


COMMIT = "git -c user.name=a -c user.email=a@example.org commit -q -m"


def shell(folder: Path, *commands: str) -> None:
    for command in commands:
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
