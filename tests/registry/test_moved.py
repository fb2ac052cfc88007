"""A study's folder that was moved or copied: its versions load, are served, and are not registered again."""

from __future__ import annotations

import shutil
import sqlite3

import pytest

from fedsynth.registry import aliases, by_hand, loading, moved, place, server, tracking, versions
from tests.alone import alone
from tests.sets import tiny_params
from tests.trained import trained

PARAMS = tiny_params()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study with a champion and a version before it."""
    root = tmp_path_factory.mktemp("with blank and ä") / "A"
    with alone():
        root.mkdir()
        (root / "params.yaml").write_text("study: busi\n")
        for seed in (1, 2):
            trained(root, PARAMS, seed=seed)
            with tracking.Tracker(root, PARAMS) as tracker:
                number = tracker.publish("vae")
            aliases.promote(root, "vae", int(number), "Ada", "the table", "run")
    return root


def addresses(root):
    with sqlite3.connect(root / "mlflow.db") as store:
        found = [of for table, name in moved.ADDRESSES for (of,) in store.execute(f"select {name} from {table}")]
    return [of for of in found if of and "mlartifacts" in of]


def goes_on(root):
    """What one does with a study, in its new place."""
    assert server.champion(root, "vae") == 2
    assert loading.load(root, "vae", 1).image.size == PARAMS.image.size
    assert server.model_of(root, "vae", None, "Ada") is not None
    assert tracking.registered(root, PARAMS)
    with tracking.Tracker(root, PARAMS) as tracker:
        assert tracker.publish("vae") == "2", "nothing is registered again"
    (root / "note.txt").write_text("of the new place")
    tracker.client.log_artifact(tracker.run_id, str(root / "note.txt"))
    assert list((root / "mlartifacts").rglob("note.txt"))
    assert {of.startswith(place.artifacts(root)) for of in addresses(root)} == {True}
    assert aliases.rollback(root, "vae", "Ada", "back", "none") == ("2", "1")


def test_a_copy_goes_on_by_itself_and_so_does_the_first(made, tmp_path):
    before = addresses(made)
    shutil.copytree(made, tmp_path / "B")
    goes_on(tmp_path / "B")
    assert addresses(made) == before
    assert not list((made / "mlartifacts").rglob("note.txt"))
    assert versions.alias_of(made, "vae", by_hand.CHAMPION) == "2"


def test_a_folder_that_was_moved_goes_on(made, tmp_path):
    shutil.copytree(made, tmp_path / "A")  # the other tests need it
    versions.client_of(tmp_path / "A")
    shutil.move(tmp_path / "A", tmp_path / "B")
    goes_on(tmp_path / "B")
    assert not (tmp_path / "A").exists()


def test_a_copy_whose_first_folder_is_gone_goes_on(made, tmp_path):
    shutil.copytree(made, tmp_path / "A")
    versions.client_of(tmp_path / "A")
    shutil.copytree(tmp_path / "A", tmp_path / "B")
    shutil.rmtree(tmp_path / "A")
    goes_on(tmp_path / "B")


def test_a_registry_that_studies_share_stays_as_it_is(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "A")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{made}/mlflow.db")
    before = addresses(made)
    versions.client_of(tmp_path / "A")
    assert addresses(made) == before


def test_a_file_that_mlflow_is_just_making_is_left_alone(tmp_path):
    sqlite3.connect(tmp_path / "mlflow.db").executescript("create table alembic_version (n)")
    moved.follow(tmp_path)
    moved.follow(tmp_path / "nothing")
