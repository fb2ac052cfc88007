"""A run with other values is an experiment of DVC in a workspace of its own; the study's own files stay as they are.

The study is a toy: one stage that copies a value of params.yaml.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows import experiment
from flows.experiment import ExperimentError, name_of, opened, place, words

STAGES = """
stages:
  copy:
    cmd: cp params.yaml out.txt
    deps: [params.yaml]
    outs: [out.txt]
  other:
    cmd: cat table/rows.csv > other.txt
    deps: [code.py]
    outs: [other.txt]
"""
PARAMS = "# a comment\nmodels:\n  vae: {training: {rounds: 2, lr: 0.1}}\nsource: {folder: table}\n"


def run(*words: str, cwd: Path) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def dvc(*words: str, cwd: Path) -> str:
    return run(sys.executable, "-m", "dvc", *words, cwd=cwd)


def git(*words: str, cwd: Path) -> str:
    return run("git", "-c", "user.name=t", "-c", "user.email=t@localhost", *words, cwd=cwd)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A study with a commit, a first run that was not committed, a changed file, a new one, and images beside git."""
    root = tmp_path_factory.mktemp("repository") / "busi"
    root.mkdir()
    git("init", "-q", "-b", "main", cwd=root.parent)
    dvc("init", "-q", "--subdir", cwd=root)
    (root / "dvc.yaml").write_text(STAGES)
    (root / "params.yaml").write_text(PARAMS)
    (root / "code.py").write_text("1\n")
    (root / ".gitignore").write_text("/table/\n/.work/\n/out.txt\n/other.txt\n")
    git("add", "-A", cwd=root)
    git("commit", "-q", "-m", "study", cwd=root)
    (root / "table").mkdir()
    (root / "table" / "rows.csv").write_text("a\n")
    (root / "code.py").write_text("2\n")
    (root / "new.yaml").write_text("models: {vae: {training: {rounds: 9}}}\nsource: {folder: table}\n")
    dvc("repro", "-q", cwd=root)
    return root


def test_a_name_says_what_differs():
    assert name_of("models.vae.training.rounds=20") == "vae-rounds-20"
    assert name_of("models.vae.training.rounds=20 seed=3") == "vae-rounds-20_seed-3"
    assert name_of(["image.size=[32, 32]", "models.gan.privacy=null"][1:]) == "gan-privacy-null"
    assert name_of("'image.size=[32, 32]'") == "image-size-32-32"
    assert name_of("studies/params.busi.yaml seed=..") == "params.busi_seed"
    assert name_of("") == name_of([]) == ""
    assert len(name_of("a=" + "x" * 200)) <= 60


def test_one_text_or_a_list_of_them_may_be_given():
    assert words("a=1 b='x y'") == words(["a=1", "b='x y'"]) == ["a=1", "b=x y"]
    with pytest.raises(ExperimentError, match="is no list of overrides"):
        words("a='1")


def test_without_other_values_the_study_itself_is_the_place(study):
    with opened(study, "") as found:
        assert (found.root, found.name, place(study, "")) == (study, "", study)
        found.save(["copy"])
    assert not (study / ".work").exists()


def test_an_experiment_runs_beside_the_study_and_is_seen_there(study):
    before = {name: (study / name).read_bytes() for name in ("params.yaml", "dvc.lock", "out.txt", "code.py")}
    with opened(study, "models.vae.training.rounds=20 +models.vae.training.flip=[1]") as found:
        assert Path.cwd() == found.root == place(study, "models.vae.training.rounds=20 +models.vae.training.flip=[1]")
        assert os.environ["DVC_ROOT"] == os.environ["FEDSYNTH_ROOT"].partition("/.work/")[0] == str(study)
        text = Path("params.yaml").read_text()
        assert yaml.safe_load(text)["models"]["vae"]["training"] == {"rounds": 20, "lr": 0.1, "flip": [1]}
        assert text.startswith("# a comment")
        assert Path("code.py").read_text() == "2\n"  # as in the study, though not committed
        assert Path("table/rows.csv").read_text() == "a\n"  # neither in git nor in DVC
        assert Path("other.txt").read_text() == "a\n"  # from the cache
        assert "'other' didn't change" in dvc("repro", "--single-item", "other", cwd=found.root)
        dvc("repro", "--single-item", "copy", cwd=found.root)
        found.save(["copy", "other"])
    assert Path.cwd() != found.root
    assert "DVC_EXP_NAME" not in os.environ
    assert {name: (study / name).read_bytes() for name in before} == before
    shown = dvc("exp", "show", "--md", cwd=study)
    assert f"[{found.name}]" in shown
    # a stage that failed is not part of it, and the same values renew it
    with opened(study, "models.vae.training.rounds=20 +models.vae.training.flip=[1]") as again:
        assert again.root == found.root
        again.save([])


def test_a_params_file_is_an_experiment_too_and_what_is_in_it_may_be_overridden(study):
    with opened(study, "new.yaml seed=3"):
        raw = yaml.safe_load(Path("params.yaml").read_text())
    assert (raw["models"]["vae"]["training"], raw["seed"]) == ({"rounds": 9}, 3)


def test_of_an_experiment_that_ended_well_the_next_one_leaves_the_reports_alone(study):
    with opened(study, "seed=4") as found:
        Path("reports").mkdir()
        Path("reports/index.html").touch()
        Path(".work").mkdir(exist_ok=True)
        found.done()
    with opened(study, "seed=5") as failed:
        Path(".work").mkdir(exist_ok=True)
        Path(".work/state").touch()
    assert [path.name for path in found.root.iterdir()] == ["reports"]
    assert (found.root / "reports/index.html").is_file()
    with opened(study, "seed=5") as again:
        assert again.root == failed.root
        assert Path(".work/state").is_file(), "it goes on where it ended"


def test_where_git_does_not_know_who_commits_there_are_experiments_all_the_same(study, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for name in ("XDG_CONFIG_HOME", "EMAIL", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.delenv(name, raising=False)
    assert subprocess.run(["git", "config", "user.email"], cwd=study, check=False).returncode == 1
    with opened(study, "seed=7") as found:
        dvc("repro", "--single-item", "copy", cwd=found.root)
        found.save(["copy"])
    assert "[seed-7]" in dvc("exp", "show", "--md", cwd=study)


def test_what_cannot_be_an_experiment_is_refused_with_the_reason(study, tmp_path):
    with (
        pytest.raises(ExperimentError, match=r"experiment of DVC, which needs git.*`git init`"),
        opened(tmp_path, "a=1"),
    ):
        pass
    with pytest.raises(ExperimentError, match=r"gone\.yaml is not there"), opened(study, "gone.yaml"):
        pass
    with pytest.raises(ExperimentError, match=r"seed=\[1 cannot be read as key=value"), opened(study, "seed=[1"):
        pass
    git("init", "-q", cwd=tmp_path)
    with pytest.raises(ExperimentError, match=r"belongs to a commit, and .* has none"), opened(tmp_path, "a=1"):
        pass
    assert Path.cwd() != tmp_path
    assert not list((study / experiment.FOLDER).glob("*.work"))
