"""The examples of docs/python.md run as they are written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedsynth.__main__ import app
from fedsynth.registry import aliases, tracking
from tests.alone import alone
from tests.sets import tiny_params
from tests.trained import trained

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study whose only model has a champion."""
    root, params = tmp_path_factory.mktemp("study"), tiny_params()
    with alone("FEDSYNTH_ROOT"):
        trained(root, params)
        with tracking.Tracker(root, params) as tracker:
            tracker.publish("vae")
        aliases.promote(root, "vae", 1, "Ada", "the only one", "none")
    return root


def test_the_examples_in_python_run(study, monkeypatch, capsys):
    monkeypatch.chdir(study)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    known: dict[str, object] = {}
    for block in blocks:
        exec(block, known)
    said = capsys.readouterr().out
    assert "vae version 1" in said
    assert "12 {'none': 6, 'infiltrating': 6, 'extra_axial': 0}" in said
    assert "knows no label 'benign'; it knows none, infiltrating, extra_axial" in said
    assert len(list((study / "a-set" / "images").iterdir())) == 24


def test_the_commands_run(study, monkeypatch):
    monkeypatch.chdir(study)
    commands = re.findall(r"^    fedsynth (generate .*)$", PAGE, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        done = CliRunner().invoke(app, shlex.split(command.replace("5000", "5")))
        assert done.exit_code == 0, f"{command}: {done.exception}"
        assert "5 images" in done.stdout
    assert len(list((study / "infiltrating").rglob("*.dcm"))) == 15
