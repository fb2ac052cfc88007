"""The score job as an oracle: whether a patient was trained on, and features of one patient."""

import numpy as np
import pytest

from fedsynth.hospital.policy import PolicyError
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
        with pytest.raises(PolicyError) as refusal:
            oracle.score(at, COPIES, images, np.zeros(len(images), int))
    assert refusal.value.rule.startswith("floors.")
    assert at.sent == []


def test_a_policy_refuses_the_gated_network():
    with hospital(FID, floors_only()) as at, pytest.raises(PolicyError) as refusal:
        oracle.patient(at, FID)
    assert refusal.value.rule.startswith("floors.")
    assert at.sent == []
