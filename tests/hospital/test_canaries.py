"""Canaries are valid images of nobody, which only the site knows; a coin says which of them a training gets."""

import numpy as np
import pytest

from fedsynth.hospital import canaries, outgoing, secret
from fedsynth.measures.canaries import Canaries
from fedsynth.params import Params
from nvflare_jobs.centre.answers import Refused
from nvflare_jobs.centre.asked import Asked
from tests.sets import make_set, tiny_params

PARAMS = tiny_params(audit={"canaries": 40})


@pytest.fixture(autouse=True)
def _real(monkeypatch):
    monkeypatch.delenv(secret.SIMULATED, raising=False)


def test_they_are_images_as_the_study_has_them(tmp_path):
    made = canaries.make(PARAMS.image, 30, 1)
    assert made.images.shape == (30, 3, 16, 16)
    assert made.images.dtype == np.float32
    assert np.abs(made.images).max() <= 1
    assert set(made.manifest["label"]) == set(PARAMS.image.labels)
    masks = made.channels(PARAMS.image, PARAMS.image.masks)
    assert set(np.unique(masks)) == {-1, 1}
    assert ((masks > 0).any((1, 2, 3)) == (made.manifest["label"] != "none")).all()
    assert len(np.unique(made.images.reshape(30, -1), axis=0)) == len(set(made.patients())) == 30


def test_volumes_and_derived_channels_have_them_too():
    derived = {"low": {"of": "t1", "operator": {"class_path": "fedsynth.operators.dose.LowDose"}}}
    image = {"size": [8, 8, 8], "channels": {"t1": "image", "low": "image"}, "given": ["low"], "derived": derived}
    params = tiny_params(image=image | {"empty_labels": []})
    assert canaries.make(params.image, 2, 1).images.shape == (2, 2, 8, 8, 8)


def test_a_training_gets_about_half_of_them_the_audit_knows_which_and_no_other_site_does(tmp_path):
    train = make_set(tmp_path / "set", PARAMS, n=20)
    north, east = tmp_path / "north", tmp_path / "east"
    taught = canaries.among(train, PARAMS, north, "vae")
    inside, outside = canaries.of_training(PARAMS, north, "vae")
    assert np.array_equal(taught.images[:20], train.images)
    assert np.array_equal(taught.images[20:], inside.images)
    assert 8 <= len(inside) <= 32
    assert len(inside) + len(outside) == 40
    canaries.among(train, PARAMS, east, "vae")
    assert not np.isin(canaries.of_training(PARAMS, east, "vae")[0].images, inside.images).all(axis=(1, 2, 3)).any()
    assert not np.array_equal(canaries.among(train, PARAMS, north, "gan").images[20:21], inside.images[:1])


def test_a_training_without_them_has_none_and_the_audit_says_nothing(tmp_path):
    train = make_set(tmp_path / "set", PARAMS, n=20)
    assert canaries.among(train, tiny_params(), tmp_path, "vae") is train
    assert canaries.of_training(PARAMS, tmp_path, "vae") is None
    canaries.among(train, PARAMS, tmp_path, "vae")
    assert canaries.of_training(tiny_params(audit={"canaries": 30}), tmp_path, "vae") is None  # of another study


def test_params_that_ask_for_them_look_for_them():
    assert "canaries" in PARAMS.score.measures
    assert "canaries" not in tiny_params().score.measures
    assert Params.model_validate(PARAMS.model_dump(mode="json")) == PARAMS


@pytest.mark.parametrize("small", [False, True], ids=["large cells", "a small cell"])
def test_what_is_found_of_them_leaves_with_their_number_and_arrives(small):
    known = outgoing.vocabulary("score", PARAMS, "north", "vae")
    cells = {label: {"train": 30, "val": 9, "test": 9} for label in PARAMS.image.labels}
    if small:
        cells["none"]["val"] = "< 5"
    real = 45 if small else 54
    number = {"value": 0.512, "floor": 0.5, "low": 0.42, "high": 0.61, "n": {"real": real, "canaries": 40}}
    found = {"values": dict.fromkeys(Canaries.about, number), "moments": {}}
    told = outgoing.leave("score", {"rows": [], "measures": {"canaries": found}}, known, 5, cells)
    assert told["measures"]["canaries"]["values"]["canaries_auc"] == number
    assert outgoing.arrive("score", told, known, 5, cells) == told
    asked = Asked("score", PARAMS, "vae", frozenset(), {"north": cells})
    asked._counts("north", {"real": real, "canaries": 40})
    with pytest.raises(Refused):
        asked._counts("north", {"real": real, "canaries": 41})
