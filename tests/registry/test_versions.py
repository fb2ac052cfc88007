"""Aliases of the registry of models: which version is in use, which was before, who decided that and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedsynth.registry import aliases, history, tracking, versions
from fedsynth.report.card import LONGEST
from tests.sets import make_set, tiny_params
from tests.trained import trained

PARAMS = tiny_params(gates={"by": "point", "require": ["c/retained >= 0.5"], "warn": ["kid <= 1"]})
WHO = ("Ada", "the table of worth", "run-1")


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A project with versions 1 to 3 of one model, the last with scores."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("DVC_ROOT", raising=False)
        for seed in (1, 2, 3):
            trained(root, PARAMS, seed=seed)
            if seed == 3:
                scored(root, 0.4)
            with tracking.Tracker(root, PARAMS) as tracker:
                tracker.publish("vae")
    return root


def scored(root, auroc):
    known = {"use": "c", "site": "north", "seed": 1, "n": {"auroc": 9}}
    real = [
        known | {"name": name, "model": "", "trained_on": on, "metrics": {"auroc": value}}
        for name, on, value in (("local", "north", 0.6), ("pooled", "all", 0.8))
    ]
    made = [
        known | {"name": name, "model": "vae", "trained_on": on, "metrics": {"auroc": value}}
        for name, on, value in (("synthetic", "vae", auroc), ("augmented", "north", 0.7))
    ]
    (root / "reports" / "score").mkdir(parents=True, exist_ok=True)
    (root / "reports" / "reference.json").write_text(json.dumps({"rows": real}))
    (root / "reports" / "score" / "vae.json").write_text(json.dumps({"rows": made}))


@pytest.fixture
def root(three):
    """The project with no alias in it."""
    client = versions.client_of(three)
    for alias in client.get_registered_model("fedsynth-vae").aliases:
        client.delete_registered_model_alias("fedsynth-vae", alias)
    return three


def in_use(root):
    return {alias: versions.alias_of(root, "vae", alias) for alias in ("champion", "previous")}


def test_the_newest_version_is_meant_where_none_is_named(root):
    assert str(versions.version_of(root, "vae").version) == "3"
    assert str(versions.version_of(root, "vae", 2).version) == "2"


@pytest.mark.parametrize("model", ["gan", "va", "%", "o'brien"])
def test_a_model_that_is_not_there_is_answered_with_those_that_are(root, model):
    with pytest.raises(versions.RegistryError, match=r"no version of a model .*; models that have one: vae$"):
        versions.version_of(root, model)


def test_a_version_that_is_not_there_is_answered_with_those_that_are(root):
    with pytest.raises(versions.RegistryError, match="fedsynth-vae has no version 9; there are 1, 2, 3"):
        aliases.promote(root, "vae", 9, *WHO)


def test_a_project_without_a_registry_says_so_and_gets_none(tmp_path):
    with pytest.raises(
        versions.RegistryError, match=r"there is no registry in .*; `fedsynth run` in a study's folder makes one"
    ):
        versions.version_of(tmp_path, "vae")
    assert list(tmp_path.iterdir()) == []


def test_the_champion_is_replaced_and_stays_within_reach(root):
    assert aliases.promote(root, "vae", 1, *WHO) is None
    assert in_use(root) == {"champion": "1", "previous": None}
    assert aliases.promote(root, "vae", 3, *WHO) == "1"
    assert in_use(root) == {"champion": "3", "previous": "1"}


def test_a_promotion_that_was_cut_short_is_completed_by_another(root, monkeypatch):
    from mlflow import MlflowClient

    aliases.promote(root, "vae", 1, *WHO)
    real = MlflowClient.set_registered_model_alias

    def cut(self, name, alias, version):
        if alias == "champion":
            raise ConnectionError
        return real(self, name, alias, version)

    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "set_registered_model_alias", cut)
        with pytest.raises(ConnectionError):
            aliases.promote(root, "vae", 2, *WHO)
    assert in_use(root)["champion"] == "1", "nothing is in use that was not promoted"
    aliases.promote(root, "vae", 2, *WHO)
    assert in_use(root) == {"champion": "2", "previous": "1"}


def test_who_when_why_the_flow_run_and_the_verdict_are_kept(root):
    aliases.promote(root, "vae", 1, *WHO)
    aliases.promote(root, "vae", 2, "  Grace\n", "sharper\nlesions", "run-2")
    version = versions.version_of(root, "vae", 2)
    found = {name: version.tags[f"promotion.{name}"] for name in ("by", "why", "flow_run_id", "replaced", "gates")}
    assert found == {
        "by": "Grace",
        "why": "sharper lesions",
        "flow_run_id": "run-2",
        "replaced": "version 1",
        "gates": "no verdict",
    }
    assert version.description.startswith("**Not judged**"), "the card stays"
    at, line = version.tags["promotion.at"], version.description.splitlines()[-1]
    assert (
        line == f"- {at} Champion in place of version 1, by Grace: sharper lesions (flow run: run-2; gates: no verdict)"
    )


def test_what_the_gates_warned_of_how_it_compared_and_why_it_was_promoted_nevertheless_are_written_down(root):
    aliases.promote(root, "vae", 3, *WHO, compared="worse", although="the\nold one leaks")
    version = versions.version_of(root, "vae", 3)
    assert (version.tags["promotion.compared"], version.tags["promotion.although"]) == ("worse", "the old one leaks")
    assert version.tags["promotion.gates"] == "passed, with 1 warning"
    assert version.tags["promotion.warnings"].startswith("kid <= 1: missing: not computed")
    assert "gates: passed, with 1 warning; warnings: kid <= 1: missing" in version.description
    assert version.description.endswith("; compared: worse; although: the old one leaks)")
    aliases.promote(root, "vae", 1, *WHO)
    aliases.promote(root, "vae", 3, *WHO)
    assert "promotion.although" not in versions.version_of(root, "vae", 3).tags, "of another promotion"


def test_the_champion_is_not_promoted_again_which_would_lose_the_previous_one(root):
    aliases.promote(root, "vae", 1, *WHO)
    aliases.promote(root, "vae", 2, *WHO)
    with pytest.raises(versions.RegistryError, match="fedsynth-vae version 2 is the champion already"):
        aliases.promote(root, "vae", 2, *WHO)
    assert in_use(root) == {"champion": "2", "previous": "1"}


@pytest.mark.parametrize(
    ("who", "why", "what"),
    [("", "x", "`by` has 0"), ("Ada", " ", "`why` has 0"), ("Ada", "x" * 1001, "`why` has 1001")],
)
def test_nobody_promotes_without_a_name_and_a_reason_that_can_be_kept(root, who, why, what):
    with pytest.raises(versions.RegistryError, match=what):
        aliases.promote(root, "vae", 1, who, why, "run")
    assert in_use(root) == {"champion": None, "previous": None}


def test_rollback_brings_the_previous_champion_back_once(root):
    aliases.promote(root, "vae", 1, *WHO)
    aliases.promote(root, "vae", 3, *WHO)
    assert aliases.rollback(root, "vae", "Grace", "artefacts", "none") == ("3", "1")
    assert in_use(root) == {"champion": "1", "previous": None}
    left, back = (versions.version_of(root, "vae", n) for n in (3, 1))
    assert (left.tags["rollback.by"], left.tags["rollback.why"], left.tags["rollback.to"]) == (
        "Grace",
        "artefacts",
        "version 1",
    )
    assert (back.tags["promotion.replaced"], back.tags["promotion.gates"]) == ("version 3", "no verdict"), (
        "the way out asks no gate"
    )
    assert "Left for version 1, by Grace: artefacts" in left.description
    assert "Champion again, in place of version 3, by Grace: artefacts" in back.description
    with pytest.raises(
        versions.RegistryError, match="no version to go back to: version 1 is the champion; to take one into use"
    ):
        aliases.rollback(root, "vae", "Grace", "again", "none")


def test_nothing_is_rolled_back_where_nothing_was_promoted(root):
    with pytest.raises(versions.RegistryError, match="no version is the champion"):
        aliases.rollback(root, "vae", "Grace", "x", "none")


def test_the_scores_of_a_version_are_the_newest_of_its_own_weights(root):
    third, first = versions.version_of(root, "vae", 3), versions.version_of(root, "vae", 1)
    assert versions.scores_of(root, first) == {}
    assert versions.scores_of(root, third)["c/synthetic/north/auroc"] == 0.4
    scored(root, 0.5)
    with tracking.Tracker(root, PARAMS) as tracker:
        assert tracker.publish("vae") == "3", "the same weights, scored again"
    assert versions.scores_of(root, third)["c/synthetic/north/auroc"] == 0.5
    assert versions.scores_of(root, first) == {}


def test_a_version_is_judged_anew_and_keeps_what_was_done_to_it(root):
    aliases.promote(root, "vae", 3, *WHO)
    before = versions.version_of(root, "vae", 3)
    scored(root, 0.2)
    lenient = PARAMS.model_copy(update={"gates": PARAMS.gates.model_copy(update={"warn": []})})
    with tracking.Tracker(root, lenient) as tracker:
        assert tracker.publish("vae") == "3"
    after = versions.version_of(root, "vae", 3)
    assert after.tags["gates"] == "failed: 1 of 1"
    assert after.tags["gate.01"] == "require does not hold: c/retained >= 0.5: 0.25 of pooled is below 0.5"
    assert "gate.02" in before.tags
    assert "gate.02" not in after.tags, "a gate that is set no more"
    assert after.tags["reference.sha256"] == before.tags["reference.sha256"]
    assert after.description.startswith("**Must not be promoted: 1 of 1 required gate does not hold.**")
    assert after.description.partition(versions.HISTORY)[2] == before.description.partition(versions.HISTORY)[2]
    assert "Champion in place of nothing, by Ada" in after.description
    assert "Must not be promoted" in whole_card(root, after)
    scored(root, 0.4)
    with tracking.Tracker(root, PARAMS) as tracker:
        tracker.publish("vae")
    assert versions.version_of(root, "vae", 3).tags["gates"] == "passed, with 1 warning"


def whole_card(root, version):
    from mlflow.artifacts import download_artifacts

    return Path(download_artifacts(f"{version.source}/MODEL_CARD.md")).read_text()


def test_the_whole_card_lies_in_the_models_folder_of_every_version(root):
    assert "**Not judged.**" in whole_card(root, versions.version_of(root, "vae", 1))
    assert "May be promoted" in whole_card(root, versions.version_of(root, "vae", 3))


def test_the_datasheet_of_the_scored_set_lies_beside_the_card(root):
    from mlflow.artifacts import download_artifacts

    make_set(
        root / "data" / "synthetic" / "vae", PARAMS, site="synthetic", n=12, origin="synthetic", model="vae/c3c3c3"
    )
    with tracking.Tracker(root, PARAMS) as tracker:
        number = tracker.publish("vae")
    sheet = Path(download_artifacts(f"{versions.version_of(root, 'vae', int(number)).source}/DATASHEET.md")).read_text()
    assert "vae/c3c3c3" in sheet
    assert "May be promoted: the required gate holds" in sheet


def test_a_long_history_loses_its_oldest_lines_and_never_the_card():
    description = "card"
    for number in range(100):
        description = history.with_line(description, f"- {number} " + "x" * 200)
    assert len(description) <= LONGEST
    assert description.startswith("card" + versions.HISTORY)
    assert "- 99 " in description
    assert "- 0 " not in description
    assert len(history.with_line("c" * LONGEST, "- 1 " + "x" * 1000)) == LONGEST
