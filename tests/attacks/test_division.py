"""Division: whole images out of a job that is nothing but configuration, and what a hospital's policy leaves of it."""

import dataclasses

import pytest

from fedsynth.hospital.policy import PolicyError
from tests.attacks import division
from tests.attacks.hospital import floors_only, hospital, of_study, study
from tests.attacks.recovery import compare

PARAMS = study(images=100, size=16)
# as far towards one image as the floors allow: a round over half of the set, batches of 4
ALLOWED = {"batch": 4, "epochs": 0.5, "clip": 1e-2, "lr": 1e-6}


def got(at, **changes):
    found = division.attack(at, division.job(PARAMS, **({"rounds": 6} | changes)), units=8)
    return compare(found, at.train_images, at.public.images)


@pytest.fixture(scope="module")
def unprotected():
    with hospital(PARAMS) as at:
        yield at


def test_without_a_policy_every_round_gives_an_image(unprotected):
    found = got(unprotected)
    assert found.shown == found.exact >= 5
    assert found.best < 1e-5


@pytest.mark.parametrize("clip", [1e-2, 1.0, None])
def test_a_floor_of_clip_and_learning_rate_alone_stops_nothing(unprotected, clip):
    """AdamW's step is inverted: docs/threats.md says so."""
    assert got(unprotected, clip=clip, lr=0.1).shown >= 5


def test_of_twenty_images_behind_a_difference_none_is_shown_even_without_the_other_floors(unprotected):
    n = len(unprotected.train_images)
    found = got(unprotected, batch=4, epochs=20 / n, lr=1.0)
    assert found.shown == 0
    assert found.best > 0.5


def test_a_hospital_that_has_agreed_to_a_study_refuses_the_model():
    with hospital(PARAMS, of_study(PARAMS)) as at, pytest.raises(PolicyError) as refusal:
        got(at)
    assert refusal.value.rule.startswith("studies.study.params.models")
    assert at.sent == []


def test_a_hospital_without_a_study_refuses_one_image_a_step_and_few_images_a_round():
    with hospital(PARAMS, floors_only()) as at:
        for changes, rule in [
            ({}, "floors.batch"),
            ({"batch": 4, "epochs": 1e-9}, "floors.images"),
            ({"batch": 20, "epochs": 1e-9}, "floors.share"),
            (ALLOWED | {"clip": 1e-12}, "floors.clip"),
            (ALLOWED | {"lr": 1e6}, "floors.lr"),
        ]:
            with pytest.raises(PolicyError) as refusal:
                got(at, **changes)
            assert refusal.value.rule == rule
        assert at.sent == []


def test_a_model_within_the_other_floors_is_refused_by_its_first_layer():
    with hospital(PARAMS, floors_only()) as at, pytest.raises(PolicyError) as refusal:
        got(at, **ALLOWED)
    assert refusal.value.rule == "floors.first_layer"
    assert at.sent == []


@pytest.mark.parametrize("lr", [1e-6, 0.1])
def test_what_the_other_floors_leave_shows_no_image(lr):
    held = floors_only()
    held = held.model_copy(update={"floors": held.floors.model_copy(update={"first_layer": 1.0})})
    with hospital(PARAMS, held) as at:
        found = got(at, **(ALLOWED | {"lr": lr}))
    assert found.shown == 0
    assert found.best > 0.5


def test_a_reconstruction_must_be_better_than_a_guess(unprotected):
    train, public = unprotected.train_images, unprotected.public.images
    guessed = compare(public.mean(0, keepdims=True), train, public)
    assert guessed.shown == 0
    assert guessed.best >= 1 - 1e-6
    assert compare(train[:3], train, public) == dataclasses.replace(compare(train[:3], train, public), shown=3, exact=3)
    assert compare((train[:1] + train[1:2]) / 2, train, public).exact == 0
    assert compare(train[:1, ..., ::-1], train, public, flip=True).exact == 1
