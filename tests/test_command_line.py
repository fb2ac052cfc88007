"""The command line: what `fedsynth check` is told to look at."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from fedsynth.__main__ import DOCS, app
from fedsynth.data import manifest
from fedsynth.errors import UserError
from tests.sets import TINY, make_set, tiny_params


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """The working directory, with a params.yaml that has no problem."""
    for name in ("FEDSYNTH_ROOT", "FEDSYNTH_DATA", "FEDSYNTH_FEDERATION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    return tmp_path


def checked(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["check", *words])
    return done.exit_code, done.output


def test_the_file_that_is_checked_is_params_yaml_by_default(project):
    assert checked() == (0, "params.yaml: no problem\n")


def test_another_file_may_be_named(project):
    (project / "other.yaml").write_text(yaml.safe_dump(TINY | {"seed": -1}, sort_keys=False))
    code, said = checked("other.yaml")
    assert (code, said.splitlines()[0]) == (1, "other.yaml has 1 problem:")
    assert "seed: -1: must be" in said


def test_a_file_that_is_not_there_is_said(project):
    code, said = checked("another.yaml")
    assert code == 1
    assert "another.yaml is not there" in said


@pytest.fixture
def hospital(project, monkeypatch) -> Path:
    """A hospital's folders with a set of `north`, and no params.yaml: it needs none to forget a patient."""
    (project / "params.yaml").unlink()
    for variable, folder in (("FEDSYNTH_DATA", "data"), ("FEDSYNTH_STATE", "state")):
        monkeypatch.setenv(variable, str(project / folder))
    make_set(project / "data/north", tiny_params(), n=24)
    (project / "state/north/look").mkdir(parents=True)
    return project


def forgot(*words: str, said: str | None = None) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["forget", *words], input=said)
    return done.exit_code, done.output + str(done.exception or "")


def of(hospital: Path) -> list[str]:
    return list(manifest.read(hospital / "data/north")["subject"])


def test_forgetting_shows_what_it_would_do_and_asks_first(hospital):
    one = of(hospital)[0]
    for said in ("n\n", None):
        code, shown = forgot(one, "--site", "north", said=said)
        assert code == 1
        assert "will be removed:" in shown
        assert "Go on?" in shown
        assert one in of(hospital)
        assert (hospital / "state/north/look").is_dir()
    code, shown = forgot(one, "--site", "north", said="y\n")
    assert code == 0
    assert "images taken out of" in shown
    assert one not in of(hospital)
    assert not (hospital / "state/north/look").exists()


def test_forgetting_several_needs_no_answer_with_yes_and_may_be_repeated(hospital):
    one, other = sorted(set(of(hospital)))[:2]
    for _ in range(2):
        assert forgot(one, other, "--site", "north", "--yes")[0] == 0
    assert not {one, other} & set(of(hospital))


def test_an_unknown_patient_is_an_error_that_shows_others_only_where_asked(hospital):
    one = of(hospital)[0]
    code, shown = forgot(f"{one}0", "--site", "north", "--yes")
    assert code == 1
    assert "has no subject" in shown
    assert not any(f" {name}" in shown or f"{name}," in shown for name in set(of(hospital)))
    assert f"similar: {one}" in forgot(f"{one}0", "--site", "north", "--yes", "--list")[1]
    assert one in of(hospital)


def test_forgetting_needs_a_site_that_is_there(hospital):
    assert forgot(of(hospital)[0], "--yes")[0] == 2
    code, shown = forgot(of(hospital)[0], "--site", "south", "--yes")
    assert code == 1
    assert "there is no site 'south'" in shown


def test_serving_where_there_is_no_registry_is_one_sentence(project):
    done = CliRunner().invoke(app, ["serve", "vae"])
    assert done.exit_code == 1
    assert "there is no registry in" in str(done.exception)


def test_what_was_found_may_be_had_as_json(project):
    (project / "other.yaml").write_text(yaml.safe_dump(TINY | {"seed": -1}, sort_keys=False))
    code, said = checked("other.yaml", "--json")
    told = json.loads(said)
    assert (code, told["passed"], told["site"]) == (1, False, [])
    assert "seed: -1: must be" in told["problems"][0]
    assert json.loads(checked("--json")[1])["passed"] is True


ROOT = Path(__file__).parents[1]


def test_the_pages_of_the_documentation_are_listed_and_printed():
    listed = CliRunner().invoke(app, ["docs"]).stdout
    assert re.search(r"hospital +For a hospital's data manager", listed)
    assert str(DOCS) in listed.replace("\n", "")
    for name in ("hospital", "docs/hospital.md"):
        assert CliRunner().invoke(app, ["docs", name]).stdout.startswith("# For a hospital's data manager")
    error = CliRunner().invoke(app, ["docs", "hopital"]).exception
    assert isinstance(error, UserError)
    assert str(error).endswith("did you mean 'hospital'?")


def test_every_page_that_a_message_names_is_there_and_every_file_is_in_the_wheel():
    said = {
        page for file in ROOT.glob("fedsynth/**/*.py") for page in re.findall(r"docs/\w+\.md", file.read_text("utf-8"))
    }
    assert said
    assert all((ROOT / page).is_file() for page in said)
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-data"]
    packed = {path for pattern in patterns["fedsynth"] for path in (ROOT / "fedsynth").glob(pattern)}
    assert packed == {path for path in (ROOT / "fedsynth/docs/").rglob("*") if path.is_file()}
