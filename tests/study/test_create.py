"""`fedsynth init`, `examples` and `upgrade`: a study in a folder of one's own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from fedsynth import checks
from fedsynth.__main__ import app
from fedsynth.errors import UserError
from fedsynth.params import load
from fedsynth.settings import Settings
from fedsynth.study import create, git, layout, upgrade
from fedsynth.study.examples import example, examples

ROOT = Path(__file__).parents[2]
NAMES = [one.name for one in examples()]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    for name in ("FEDSYNTH_ROOT", "FEDSYNTH_DATA", *(v for one in examples() for v in one.variables)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.output + (f"{done.exception}" if done.exception else "")


def test_each_example_says_what_it_is():
    assert {"phantom", "busi", "full"} <= set(NAMES)
    for one in examples():
        assert one.data
        assert one.compares
        assert int(one.minutes) > 0
        assert one.minutes.isdigit()


def test_the_default_example_is_the_study_of_the_repository():
    assert example("phantom").text == (ROOT / "params.yaml").read_text(encoding="utf-8")


def test_the_files_of_a_study_are_those_of_the_repository():
    for place in set(layout.FILES) - {".gitignore"}:
        assert layout.template(place) == (ROOT / place).read_text(encoding="utf-8"), place


@pytest.mark.parametrize("name", NAMES)
def test_a_study_of_each_example_has_no_problem(name, here, monkeypatch):
    one = example(name)
    for variable in one.variables:
        monkeypatch.setenv(variable, str(here))  # where the images would be; they are not looked at
    create.create(here / "study", "study", create.from_example(name, None))
    _, problems = checks.of_file(here / "study/params.yaml", source=False, given=False)
    assert problems == []


def test_a_study_is_a_repository_with_one_commit(here):
    code, text = said("init", "mine")
    assert (code, "git repository with one commit" in text) == (0, True)
    log = subprocess.run(["git", "log", "--format=%s"], cwd=here / "mine", capture_output=True, text=True, check=True)
    changed = subprocess.run(["git", "status", "-s"], cwd=here / "mine", capture_output=True, text=True, check=True)
    assert (log.stdout.splitlines(), changed.stdout) == (["A study of fedsynth"], "")


def test_in_a_repository_it_makes_no_second_one(here):
    subprocess.run(["git", "init", "-q"], cwd=here, check=True)
    code, text = said("init", "mine")
    assert (code, f"git repository {here.resolve()}" in text) == (0, True)
    assert not (here / "mine/.git").exists()


def test_a_folder_that_holds_something_is_left_as_it_is(here):
    (here / "mine").mkdir()
    (here / "mine/notes.txt").write_text("mine")
    code, text = said("init", "mine")
    assert (code, "holds notes.txt" in text) == (1, True)
    assert [path.name for path in (here / "mine").iterdir()] == ["notes.txt"]


def test_a_misspelt_example_is_named_with_the_nearest_one(here):
    assert "Did you mean 'nuclei'?" in said("init", "mine", "--example", "nucle")[1]
    assert not (here / "mine").exists()


def test_the_folder_of_the_images_may_be_given(here):
    images = here / "of us: ä #1"
    images.mkdir()
    text = create.of_example(example("brats"), images)
    assert yaml.safe_load(text)["source"]["args"]["folder"] == images.as_posix()
    assert "${" not in text
    with pytest.raises(UserError, match="not there"):
        create.of_example(example("brats"), here / "nowhere")
    with pytest.raises(UserError, match="its own images"):
        create.of_example(example("phantom"), images)


def test_a_variable_that_is_not_set_is_said(here):
    code, text = said("init", "mine", "--example", "busi")
    assert (code, text.rstrip().splitlines()[-3:]) == (
        0,
        ["    cd mine", "    export FEDSYNTH_BUSI=FOLDER", "    fedsynth run"],
    )


def test_a_folder_without_the_images_of_the_example_makes_no_study(here):
    (here / "empty").mkdir()
    code, text = said("init", "mine", "--example", "busi", "--data", "empty")
    assert (code, "--data empty does not hold the example's images" in text, "manifest.csv" in text) == (1, True, True)
    assert not (here / "mine").exists()


def test_examples_as_json():
    assert [one["name"] for one in json.loads(said("examples", "--json")[1])] == NAMES


def test_a_study_is_found_from_a_folder_within_it(here, monkeypatch):
    said("init", "mine")
    (here / "mine/reports/deep").mkdir(parents=True)
    monkeypatch.chdir(here / "mine/reports/deep")
    assert Settings.read().root == (here / "mine").resolve()


class TestUpgrade:
    @pytest.fixture
    def study(self, here, monkeypatch) -> Path:
        said("init", "mine")
        monkeypatch.chdir(here / "mine")
        return here / "mine"

    @staticmethod
    def as_of_earlier(study: Path, place: str, text: str) -> None:
        """The study as a version with another text of a file would have made it."""
        (study / place).write_text(text)
        told = json.loads((study / layout.MADE).read_text())
        told["files"][place] = layout.digest(text)
        (study / layout.MADE).write_text(json.dumps(told | {"version": "0.0.1"}))

    def test_of_the_same_version_there_is_nothing_to_do(self, study):
        code, text = said("upgrade")
        assert (code, text.splitlines()[-1]) == (0, "nothing to do")

    def test_a_file_of_an_earlier_version_is_replaced(self, study):
        self.as_of_earlier(study, "dvc.yaml", "stages: {}\n")
        code, text = said("upgrade", "--dry-run")
        assert (code, "-stages: {}" in text, (study / "dvc.yaml").read_text()) == (0, True, "stages: {}\n")
        code, text = said("upgrade")
        assert (code, "made by fedsynth 0.0.1" in text) == (0, True)
        assert (study / "dvc.yaml").read_text() == layout.template("dvc.yaml")
        assert said("upgrade")[1].splitlines()[-1] == "nothing to do"

    def test_a_file_that_was_edited_is_not_lost(self, study):
        self.as_of_earlier(study, "dvc.yaml", "stages: {}\n")
        (study / "dvc.yaml").write_text("stages: {mine: {cmd: ls}}\n")
        code, text = said("upgrade")
        assert (code, "dvc.yaml was edited here" in text) == (1, True)
        assert "mine" in (study / "dvc.yaml").read_text()
        assert said("upgrade", "--take")[0] == 0
        assert "mine" in (study / f"dvc.yaml{upgrade.KEPT}").read_text()
        assert (study / "dvc.yaml").read_text() == layout.template("dvc.yaml")

    def test_a_file_that_was_edited_and_is_the_same_in_both_versions_stays(self, study):
        (study / "prefect.yaml").write_text("name: mine\n")
        assert said("upgrade")[1].splitlines()[-1] == "nothing to do"
        assert (study / "prefect.yaml").read_text() == "name: mine\n"

    def test_a_setting_that_is_a_key_now_is_said(self, study, monkeypatch):
        monkeypatch.setenv("FEDSYNTH_KEEP_RUNS", "9")
        assert "write `keep_runs: 9` into params.yaml, or 3 runs are kept" in said("upgrade")[1]
        with (study / "params.yaml").open("a") as file:
            file.write("keep_runs: 9\n")
        assert "keep_runs" not in said("upgrade")[1]

    def test_a_key_that_is_no_longer_known_stops_it(self, study):
        self.as_of_earlier(study, "dvc.yaml", "stages: {}\n")
        (study / "params.yaml").write_text((study / "params.yaml").read_text() + "sed: 1\n")
        code, text = said("upgrade")
        assert (code, "sed: 1: unknown key" in text) == (1, True)
        assert (study / "dvc.yaml").read_text() == "stages: {}\n"

    def test_a_folder_that_init_did_not_make_is_said(self, here, monkeypatch):
        monkeypatch.chdir(here)
        assert "was not made by `fedsynth init`" in said("upgrade")[1]


def test_a_commit_of_a_file_that_has_not_changed_is_none(here):
    said("init", "mine")
    root = here / "mine"
    (root / "dvc.lock").write_text("a")
    assert git.commit(root, "one", ["dvc.lock", "params.yaml"])
    assert not git.commit(root, "two", ["dvc.lock", "params.yaml"])


def test_deployments_have_the_name_of_the_study(here):
    assert said("init", "mine", "--name", "lungs_2")[0] == 0
    deployments = yaml.safe_load((here / "mine/prefect.yaml").read_text())["deployments"]
    assert [one["name"] for one in deployments] == ["nightly-lungs_2", "promote-lungs_2"]
    assert layout.made(here / "mine").name == "lungs_2"


def test_a_folder_whose_name_can_be_none_of_a_study_asks_for_one(here):
    code, text = said("init", "müde Lunge")
    assert (code, "--name NAME" in text) == (1, True)
    assert not (here / "müde Lunge").exists()
    assert said("init", "müde Lunge", "--name", "lungs")[0] == 0


def test_a_run_is_kept_in_a_repository_of_its_own_and_in_no_other(here):
    said("init", "mine")
    (here / "mine/dvc.lock").write_text("a")
    (here / "mine/notes.txt").write_text("not of a run")
    assert git.keep(here / "mine", "Run: train; vae")
    log = subprocess.run(
        ["git", "show", "--stat", "--format=%s"], cwd=here / "mine", capture_output=True, text=True, check=True
    )
    assert log.stdout.splitlines()[0] == "Run: train; vae"
    assert "dvc.lock" in log.stdout
    assert "notes.txt" not in log.stdout
    assert not git.keep(here / "mine", "again")
    (here / "mine/.fedsynth.json").unlink()
    (here / "mine/dvc.lock").write_text("b")
    assert not git.keep(here / "mine", "of a checkout")


def test_the_study_has_its_name_in_params(here):
    for example_of in ("phantom", "busi"):
        said("init", f"of_{example_of}", "--example", example_of)
        assert yaml.safe_load((here / f"of_{example_of}/params.yaml").read_text())["study"] == f"of_{example_of}"


def test_a_study_of_ones_own_images(here):
    folder = here / "scans"
    for kind, shade in (("benign", 60), ("malignant", 180)):
        (folder / kind).mkdir(parents=True)
        for number in range(30):
            values = np.random.default_rng([shade, number]).normal(shade, 20, (48, 48)).clip(0, 255)
            Image.fromarray(values.astype(np.uint8)).save(folder / kind / f"p{number:03d}.png")
    code, text = said("init", "mine", "--from", str(folder))
    assert (code, "benign 30, malignant 30" in text) == (0, True)
    params = load(here / "mine/params.yaml")
    assert (params.study, params.image.labels) == ("mine", ["benign", "malignant"])
    assert said("init", "other", "--from", str(folder), "--example", "busi")[0] == 1
    assert "not there" in said("init", "other", "--from", str(here / "nowhere"))[1]
    assert not (here / "other").exists()
