"""Where the registry is: what changes with it, without MLflow."""

from __future__ import annotations

import sqlite3

import pytest

from fedsynth.registry import place


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry of one version, in the project's folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sqlite3.connect(tmp_path / "mlflow.db").executescript("create table v (n); insert into v values (1); begin; end;")
    return sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)


def test_to_read_a_registry_changes_nothing_and_to_write_to_it_changes_the_stamp(tmp_path, registry):
    before = place.stamp(tmp_path)
    assert registry.execute("select n from v").fetchall() == [(1,)]
    assert place.stamp(tmp_path) == before != ""
    registry.execute("delete from v")
    assert place.stamp(tmp_path) != before


def test_with_a_write_ahead_log_too(tmp_path, registry):
    registry.execute("pragma journal_mode = wal")
    registry.execute("insert into v values (2)")
    before = place.stamp(tmp_path)
    registry.execute("delete from v")
    assert place.stamp(tmp_path) != before


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/#/x"),
        ("https://ada:secret@mlflow.example/under/", "https://mlflow.example/under/#/x"),
        ("", ""),
        ("postgresql://ada:secret@db/mlflow", ""),
    ],
)
def test_a_page_has_an_address_where_a_server_shows_it_and_it_holds_no_password(tmp_path, monkeypatch, uri, address):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert place.page(tmp_path, "x") == address


def test_a_registry_that_is_not_there_and_one_of_a_server_have_no_stamp(tmp_path, registry, monkeypatch):
    (tmp_path / "mlflow.db").unlink()
    assert (place.there(tmp_path), place.stamp(tmp_path)) == (False, "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert (place.there(tmp_path), place.stamp(tmp_path)) == (True, "")
