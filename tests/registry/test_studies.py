"""Two studies on one tracking server: each sees its own versions, runs, aliases and marks alone."""

from __future__ import annotations

import json

import pytest

from fedsynth.registry import aliases, by_hand, runs, server, stale, tracking, versions
from tests.registry.test_versions import WHO, scored
from tests.sets import tiny_params
from tests.trained import trained

PARAMS = tiny_params(gates={"by": "point", "require": ["c/retained >= 0.5"]})
NAMES = ("busi", "busi-x", "bu_i")  # a part of one another, and one whose _ matches any character in SQL


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('server')}/mlflow.db"


@pytest.fixture
def studies(made, shared, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", shared)
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory, shared):
    """Three studies with one version each, of the same weights, on one tracking store."""
    roots = {name: tmp_path_factory.mktemp(name) for name in NAMES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", shared)
        for name, root in roots.items():
            (root / "params.yaml").write_text(f"study: {name}\n")
            trained(root, PARAMS)
            scored(root, 0.4)
            with tracking.Tracker(root, PARAMS) as tracker:
                assert tracker.publish("vae") == "1"
    return roots


@pytest.mark.parametrize("name", NAMES)
def test_versions_and_runs_are_the_studys_own(studies, name):
    root = studies[name]
    assert [version.name for version in versions.of_study(root)] == [f"{name}-vae"]
    assert versions.version_of(root, "vae").name == f"{name}-vae"
    assert versions.scores_of(root, versions.version_of(root, "vae")) != {}
    assert tracking.registered(root, PARAMS)
    client = versions.client_of(root)
    found = client.search_runs([runs.experiment(client, root)], "tags.kind = 'model'")
    assert [run.info.run_name for run in found] == [f"{name} vae"]
    with pytest.raises(versions.RegistryError, match=r"no version of a model 'gan'; models that have one: vae$"):
        versions.version_of(root, "gan")


def test_a_promotion_of_one_is_none_of_the_others(studies):
    aliases.promote(studies["busi"], "vae", 1, *WHO)
    assert server.champion(studies["busi"], "vae") == 1
    for name in ("busi-x", "bu_i"):
        assert versions.alias_of(studies[name], "vae", "champion") is None
        assert by_hand.lines(studies[name]) == []
        assert "promotion.by" not in versions.version_of(studies[name], "vae").tags
        with pytest.raises(versions.RegistryError, match="no version of vae is the champion"):
            server.champion(studies[name], "vae")


def test_what_a_hospital_withdraws_from_one_study_marks_its_versions_alone(studies):
    (studies["busi"] / "data").mkdir()
    withdrawn = {"source": "sites", "digests": {}, "withdrawn": {"north": ["digest-north"]}}
    (studies["busi"] / "data/source.json").write_text(json.dumps(withdrawn))
    assert stale.mark(studies["busi"]) == ["busi-vae version 1"]
    assert "stale" not in versions.version_of(studies["busi-x"], "vae").tags
    assert stale.lines(studies["busi-x"]) == []
