"""The command line: what `fedsynth check` is told to look at."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from fedsynth.__main__ import app
from tests.sets import TINY


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
