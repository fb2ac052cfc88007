"""Versions that were trained with data which a hospital has withdrawn: marked, refused, cleared by a person alone."""

from __future__ import annotations

import json

import pytest

from fedsynth.registry import aliases, loading, promotion, server, stale, tracking, versions
from fedsynth.report.card import card, model_card
from fedsynth.worth import withdrawn
from fedsynth.worth.facts import facts
from fedsynth.worth.judgement import card as judgement
from flows import candidate, promote
from tests.registry.test_versions import WHO, scored
from tests.sets import tiny_params
from tests.trained import trained

PARAMS = tiny_params(gates={"by": "point", "require": ["c/retained >= 0.5"]})
NORTH, EAST, OTHER = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project with three versions: 1 of another set of north's, 2 and 3 of the one that north withdraws."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for seed, north in ((1, OTHER), (2, NORTH), (3, NORTH)):
        about = trained(tmp_path, PARAMS, seed=seed) | {"digests": {"north": north, "east": EAST}}
        (tmp_path / "models/vae/model.json").write_text(json.dumps(about))
        scored(tmp_path, 0.4 + seed / 10)
        with tracking.Tracker(tmp_path, PARAMS) as tracker:
            tracker.publish("vae")
    return tmp_path


def withdraws(root, **sites):
    (root / "data").mkdir(exist_ok=True)
    (root / "data/source.json").write_text(json.dumps({"source": "sites", "digests": {}, "withdrawn": sites}))


def stale_ones(root):
    client = versions.client_of(root)
    found = client.search_model_versions("name='fedsynth-vae'")
    return sorted(int(v.version) for v in found if client.get_model_version(v.name, v.version).tags.get("stale"))


def test_versions_of_a_withdrawn_set_are_marked_with_the_site_and_the_date_and_no_others(root):
    withdraws(root, north=[NORTH, "d" * 64])
    assert stale.mark(root) == ["fedsynth-vae version 2", "fedsynth-vae version 3"]
    assert stale_ones(root) == [2, 3]
    version = versions.version_of(root, "vae", 2)
    assert version.tags["stale"] == "data withdrawn"
    at, digest = version.tags["withdrawn.north"].split()
    assert (at[:2], digest) == ("20", NORTH)
    assert "Stale: data withdrawn at north" in version.description
    assert stale.mark(root) == [], "once"


def test_a_site_speaks_for_its_own_sets_alone(root):
    withdraws(root, east=[NORTH, OTHER], north=[EAST], west=[NORTH, EAST, OTHER])
    assert stale.mark(root) == []


def test_nothing_is_marked_where_nothing_was_withdrawn_or_there_is_no_registry(root, tmp_path_factory):
    assert stale.mark(root) == []
    empty = tmp_path_factory.mktemp("empty")
    withdraws(empty, north=[NORTH])
    assert stale.mark(empty) == []
    assert not (empty / "mlflow.db").exists()


def test_a_stale_version_is_neither_promoted_nor_loaded_nor_served_without_a_reason(root):
    withdraws(root, north=[NORTH])
    ways = [
        lambda: loading.load(root, "vae", 2),
        lambda: server.model_of(root, "vae", 2, "Ada"),
        lambda: aliases.promote(root, "vae", 2, *WHO),
    ]
    for way in ways:  # whether or not anybody has marked it before
        with pytest.raises(promotion.Refused) as error:
            way()
        assert "fedsynth-vae version 2 is stale, data withdrawn at north" in str(error.value)
        assert "train vae again without them (`fedsynth run`" in str(error.value)
        assert "--although TEXT" in str(error.value)
    assert versions.alias_of(root, "vae", "champion") is None
    loading.load(root, "vae", 1)


def test_a_reason_promotes_and_serves_it_and_stays_with_who_and_when(root):
    withdraws(root, north=[NORTH])
    aliases.promote(root, "vae", 2, *WHO, although="the new one is trained tonight")
    server.model_of(root, "vae", 2, "Grace", "for the demonstration")
    version = versions.version_of(root, "vae", 2)
    tags = version.tags
    assert (tags["promotion.by"], tags["promotion.although"]) == ("Ada", "the new one is trained tonight")
    assert "is stale, data withdrawn at north" in tags["promotion.overruled"]
    assert (tags["served.by"], tags["served.although"]) == ("Grace", "for the demonstration")
    assert tags["promotion.at"] <= tags["served.at"]
    for line in ("Stale: data withdrawn", "although: the new one is trained tonight", "Served, by Grace"):
        assert line in version.description


def test_a_stale_version_is_not_rolled_back_to_without_a_reason(root):
    aliases.promote(root, "vae", 2, *WHO)
    aliases.promote(root, "vae", 1, *WHO)
    withdraws(root, north=[NORTH])
    with pytest.raises(promotion.Refused, match="version 2 is stale"):
        aliases.rollback(root, "vae", "Grace", "artefacts", "none")
    assert versions.alias_of(root, "vae", "champion") == "1"
    assert aliases.rollback(root, "vae", "Grace", "artefacts", "none", "worse is worse") == ("1", "2")
    tags = versions.version_of(root, "vae", 2).tags
    assert tags["promotion.although"] == "worse is worse"
    assert "is stale" in tags["promotion.overruled"]


def test_mlflow_alone_refuses_a_stale_version_that_it_loads_by_its_number(root, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    withdraws(root, north=[NORTH])
    stale.mark(root)
    with pytest.raises(stale.Stale, match="fedsynth serve MODEL --version N --although TEXT"):
        mlflow.pyfunc.load_model("models:/fedsynth-vae/2")
    mlflow.pyfunc.load_model("models:/fedsynth-vae/1")


def test_a_person_clears_the_mark_with_a_reason_and_only_another_withdrawal_brings_it_back(root):
    withdraws(root, north=[NORTH])
    stale.mark(root)
    with pytest.raises(versions.RegistryError, match="`why` has 0"):
        stale.clear(root, "vae", 2, "Ada", " ")
    assert stale_ones(root) == [2, 3]
    stale.clear(root, "vae", 2, "Ada", "the patient agrees to research again")
    assert stale_ones(root) == [3]
    tags = versions.version_of(root, "vae", 2).tags
    assert (tags["stale.cleared.by"], tags["stale.cleared.digests"]) == ("Ada", NORTH)
    assert "No longer stale, by Ada: the patient agrees" in versions.version_of(root, "vae", 2).description
    assert stale.mark(root) == []
    aliases.promote(root, "vae", 2, *WHO)
    withdraws(root, north=[NORTH], east=[EAST])
    assert stale.mark(root) == [f"fedsynth-vae version {n}" for n in (1, 2, 3)]
    assert "withdrawn.north" not in versions.version_of(root, "vae", 2).tags
    with pytest.raises(versions.RegistryError, match="is not stale"):
        stale.clear(root, "vae", 2, "Ada", "x") or stale.clear(root, "vae", 2, "Ada", "x")


def test_a_new_scoring_and_the_next_run_leave_the_mark(root):
    withdraws(root, north=[NORTH])
    stale.mark(root)
    with tracking.Tracker(root, PARAMS) as tracker:
        assert tracker.publish("vae") == "3"
    version = versions.version_of(root, "vae", 3)
    assert version.tags["stale"] == "data withdrawn"
    assert "Must not be promoted: stale, data withdrawn at north" in version.description


def test_card_report_and_plan_say_so(root):
    about = json.loads((root / "models/vae/model.json").read_text())
    assert facts(PARAMS, root, "vae")["withdrawn"] == []
    withdraws(root, north=[NORTH])
    known = facts(PARAMS, root, "vae")
    assert known["withdrawn"] == ["north"]
    for text in (card(about, known), model_card(about, known), judgement("vae", known)["said"]):
        assert "ust not be promoted: stale, data withdrawn at north" in text
    assert not judgement("vae", known)["passed"]
    (line,) = withdrawn.lines(root, ["vae"])
    assert line.startswith("vae: stale, data withdrawn at north")
    assert line.endswith("train it again without them: `fedsynth run`")


def test_the_version_in_use_is_told_with_what_to_do(root):
    aliases.promote(root, "vae", 2, *WHO)
    assert stale.lines(root) == []
    withdraws(root, north=[NORTH])
    stale.mark(root)
    (line,) = stale.lines(root)
    assert line.startswith("fedsynth-vae version 2, the champion, is stale, data withdrawn at north")
    assert "`fedsynth promote vae`" in line


def test_the_page_for_the_approver_says_so_first_and_the_command_clears_it(root, monkeypatch, capsys):
    withdraws(root, north=[NORTH])
    stale.mark(root)
    (root / "params.yaml").write_text("study: fedsynth\n")
    assert "**fedsynth-vae version 2 is stale" in candidate.describe(root, "vae", 2, None)
    monkeypatch.setenv("FEDSYNTH_ROOT", str(root))
    assert promote.main(["clear", "vae", "--version", "2", "--by", "Ada", "--why", "agreed again"]) == 0
    assert "fedsynth-vae version 2 is no longer stale, by Ada" in capsys.readouterr().out
    assert stale_ones(root) == [3]


def test_names_of_sites_that_are_any_text_are_found_by_their_keys(root):
    about = trained(root, PARAMS, seed=4) | {"digests": {"St. Mary's Hospital": NORTH}}
    (root / "models/vae/model.json").write_text(json.dumps(about))
    (root / "reports/score/vae.json").unlink()
    with tracking.Tracker(root, PARAMS) as tracker:
        tracker.publish("vae")
    withdraws(root, **{"St. Mary's Hospital": [NORTH]})
    assert stale.mark(root) == ["fedsynth-vae version 4"]
