"""Aliases that a person has changed in MLflow's page, and the first champion, which has nothing before it."""

from __future__ import annotations

import pytest

from fedsynth.registry import aliases, by_hand, server, versions
from tests.registry.test_versions import WHO, in_use, three

NAME = "fedsynth-vae"

__all__ = ["three"]


@pytest.fixture
def root(three):
    """Three versions, and neither an alias nor a record of one."""
    client = versions.client_of(three)
    model = client.get_registered_model(NAME)
    for alias in model.aliases:
        client.delete_registered_model_alias(NAME, alias)
    for tag in model.tags:
        client.delete_registered_model_tag(NAME, tag)
    for number in ("1", "2", "3"):
        for tag in client.get_model_version(NAME, number).tags:
            if tag.startswith(("promotion.", "rollback.")):
                client.delete_model_version_tag(NAME, number, tag)
    return three


def by_a_person(root, alias, number):
    versions.client_of(root).set_registered_model_alias(NAME, alias, number)


def test_what_promotion_and_rollback_do_is_no_change_by_hand(root):
    assert by_hand.lines(root) == []
    for step in (1, 3):
        aliases.promote(root, "vae", step, *WHO)
        assert by_hand.lines(root) == []
    aliases.rollback(root, "vae", "Ada", "worse", "none")
    assert (by_hand.lines(root), by_hand.changed(root, "vae")) == ([], "")


def test_a_change_by_hand_is_said_with_both_versions_and_what_to_do(root, caplog):
    aliases.promote(root, "vae", 1, *WHO)
    by_a_person(root, "champion", "2")
    (line,) = by_hand.lines(root)
    assert line.startswith(f"{NAME}: version 2 is the champion, and version 1 was made that by a promotion: somebody")
    assert "who and when is not known; give it to version 1 again there" in line
    assert line.endswith("`fedsynth promote vae --version 2`")
    assert server.champion(root, "vae") == 2
    assert line in caplog.text, "who serves it is told"
    by_a_person(root, "champion", "1")
    assert by_hand.lines(root) == []


def test_a_champion_by_hand_that_nobody_promoted_and_one_that_is_gone_are_said(root):
    by_a_person(root, "champion", "2")
    (line,) = by_hand.lines(root)
    assert "version 2 is the champion, and no version was made that by a promotion" in line
    aliases.promote(root, "vae", 1, *WHO)
    versions.client_of(root).delete_registered_model_alias(NAME, "champion")
    lines = by_hand.lines(root)
    assert [line.partition(":")[2].partition(",")[0] for line in lines] == [" no version is the champion"]


def test_the_alias_of_the_previous_version_is_watched_too(root):
    aliases.promote(root, "vae", 1, *WHO)
    by_a_person(root, "previous", "3")
    assert "version 3 is the previous, and no version was made that" in by_hand.changed(root, "vae")
    assert by_hand.changed(root, "gan") == ""


def test_a_champion_of_an_older_fedsynth_was_promoted_by_its_history(root):
    by_a_person(root, "champion", "2")
    by_a_person(root, "previous", "1")
    versions.client_of(root).set_model_version_tag(NAME, "2", "promotion.at", "2026-01-01T00:00:00+00:00")
    assert by_hand.lines(root) == []


def test_a_person_may_answer_for_what_was_changed_by_hand(root):
    aliases.promote(root, "vae", 1, *WHO)
    by_a_person(root, "champion", "2")
    assert aliases.promote(root, "vae", 2, *WHO) == "1", "it replaces what was promoted"
    assert in_use(root) == {"champion": "2", "previous": "1"}
    assert by_hand.lines(root) == []
    assert versions.version_of(root, "vae", 2).tags["promotion.replaced"] == "version 1"


def test_rollback_goes_back_to_what_was_promoted(root):
    aliases.promote(root, "vae", 1, *WHO)
    aliases.promote(root, "vae", 2, *WHO)
    by_a_person(root, "champion", "3")
    assert aliases.rollback(root, "vae", "Ada", "not approved", "none") == ("3", "2")
    assert in_use(root) == {"champion": "2", "previous": "1"}
    assert by_hand.lines(root) == []


def test_the_first_champion_is_withdrawn_and_nothing_is_in_use(root):
    aliases.promote(root, "vae", 2, *WHO)
    assert aliases.rollback(root, "vae", "Grace", "artefacts", "none") == ("2", None)
    assert in_use(root) == {"champion": None, "previous": None}
    version = versions.version_of(root, "vae", 2)
    assert (version.tags["rollback.by"], version.tags["rollback.to"]) == ("Grace", "nothing")
    assert "Withdrawn, nothing is in its place, by Grace: artefacts" in version.description
    assert by_hand.lines(root) == []
    with pytest.raises(versions.RegistryError, match="no version is the champion"):
        aliases.rollback(root, "vae", "Grace", "again", "none")
    assert aliases.promote(root, "vae", 3, *WHO) is None


def test_a_champion_that_came_back_is_not_withdrawn_by_a_second_rollback(root):
    aliases.promote(root, "vae", 1, *WHO)
    aliases.promote(root, "vae", 2, *WHO)
    aliases.rollback(root, "vae", "Grace", "worse", "none")
    with pytest.raises(versions.RegistryError, match="no version to go back to: version 1 is the champion"):
        aliases.rollback(root, "vae", "Grace", "once more", "none")
    assert in_use(root)["champion"] == "1"
