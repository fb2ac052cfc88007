"""The score job as an oracle: whether a patient was trained on, and features of one patient."""

import contextlib

import numpy as np
import pytest

from fedsynth.hospital.policy import PolicyError
from fedsynth.hospital.policy.model import Privacy
from tests.attacks import oracle
from tests.attacks.hospital import floors_only, hospital, of_study

COPIES, FID = oracle.asking(copies="copies.Copies"), oracle.asking(fid="fid.FID")


@pytest.mark.parametrize(("split", "member"), [("train", True), ("test", False)])
def test_without_a_policy_five_copies_of_an_image_tell_who_was_trained_on(split, member):
    with hospital(COPIES) as at:
        images = at.real.split(split)
        labels = images.labels(COPIES.image)
        assert {oracle.member(at, COPIES, images.images[i], int(labels[i])) for i in range(3)} == {member}


def test_without_a_policy_a_gated_network_reads_features_of_one_patient():
    with hospital(FID) as at:
        found = oracle.patient(at, FID)
    assert found["features"] == 7
    assert found["jobs"] <= 8
    assert found["error"] < found["next"] / 10


@pytest.mark.parametrize("policy", [floors_only, lambda: of_study(COPIES)], ids=["floors", "study"])
def test_a_policy_refuses_a_set_of_copies(policy):
    with hospital(COPIES, policy()) as at, pytest.raises(PolicyError) as refusal:
        oracle.member(at, COPIES, at.train_images[0], 0)
    assert refusal.value.rule == "floors.set_images"
    assert at.sent == []


def test_a_policy_refuses_an_image_among_others_that_no_model_has_drawn():
    with hospital(COPIES, floors_only()) as at:
        images = np.concatenate([at.train_images[:1], np.asarray(at.public.images[:40])])
        before = oracle.drawn(at, COPIES)
        with pytest.raises(PolicyError) as refusal:
            oracle.score(at, COPIES, before._replace(images=images, labels=np.zeros(len(images), np.int64)))
    assert refusal.value.rule == "floors.drawn"


def test_a_policy_lets_an_honest_set_be_scored():
    with hospital(COPIES, floors_only()) as at:
        assert oracle.score(at, COPIES, oracle.drawn(at, COPIES))["rows"]


def test_under_a_policy_copies_leave_as_a_word():
    with hospital(COPIES, floors_only()) as at:
        answer = oracle.score(at, COPIES, oracle.drawn(at, COPIES))
    said = answer["measures"]["copies"]["values"]["copies_pixel"]
    assert said["value"] == 0 or (said["value"] is None and said["some"])


def test_a_policy_refuses_an_image_in_a_set_that_its_model_has_not_drawn():
    with hospital(COPIES, floors_only()) as at:
        honest = oracle.drawn(at, COPIES, 250)  # in three batches
        before = len(at.sent)
        for place in range(0, 240, 30):
            images = honest.images.copy()
            images[place] = at.train_images[0]
            with contextlib.suppress(PolicyError):
                oracle.score(at, COPIES, honest._replace(images=images))
        assert len(at.sent) == before


def test_a_policy_leaves_nothing_to_read_for_a_gated_network():
    with hospital(FID, floors_only()) as at:
        honest = oracle.drawn(at, FID)
        with contextlib.suppress(PolicyError):
            found = oracle.patient(at, FID, honest)
            assert not found or found["error"] > found["next"] / 2


def test_the_moments_for_fid_have_the_noise_that_a_policy_asks_for():
    told = []
    for noise in (0.0, 10.0):
        held = floors_only().model_copy(update={"privacy": Privacy(moments=noise)})
        with hospital(FID, held) as at:
            answer = oracle.score(at, FID, oracle.drawn(at, FID))
            told.append(np.array(answer["measures"]["fid"]["moments"]["train"]["mean"]))
    assert np.linalg.norm(told[0] - told[1]) > 1e-3
