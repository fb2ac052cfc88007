"""Environment variables: defaults from the working directory, and errors that name the variable."""

from __future__ import annotations

import pytest

from fedsynth.settings import DESCRIBED, Settings, SettingsError


def test_by_default_everything_lies_under_the_working_directory(tmp_path, monkeypatch):
    for name in DESCRIBED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    settings = Settings.read()
    assert (settings.root, settings.data, settings.state) == (tmp_path, tmp_path / "data/sites", tmp_path / ".work/sites")
    assert settings.simulation


def test_a_hospital_says_where_its_data_and_its_state_lie(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSYNTH_DATA", str(tmp_path / "pacs"))
    monkeypatch.setenv("FEDSYNTH_STATE", str(tmp_path / "state"))
    assert (Settings.read().data, Settings.read().state) == (tmp_path / "pacs", tmp_path / "state")


@pytest.mark.parametrize(("name", "value"), [("FEDSYNTH_STALL_S", "soon"), ("FEDSYNTH_FEDERATION", "moon")])
def test_a_value_that_cannot_be_used_is_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        Settings.read()


def test_every_variable_is_described():
    assert {name for name, _, _ in Settings.read().rows()} == set(DESCRIBED)
