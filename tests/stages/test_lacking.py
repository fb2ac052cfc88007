"""A site without a modality: what networks are with_modality_dropout, and what its real images are held against."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedsynth.data.dataset import concatenate
from fedsynth.stages import reference, score
from fedsynth.training.supervised import augment
from fedsynth.worth import use_networks
from tests.sets import make_set, tiny_params

USES = {
    "classification": {"class_path": "fedsynth.uses.classification.Classification", "args": {"steps": 3, "features": 4}}
}
PARAMS = tiny_params(image={"may_lack": ["t2"]}, score={"uses": USES, "seeds": [1]})
IMAGE = PARAMS.image


@pytest.fixture
def some(tmp_path):
    """Twelve images, of which the first five have no t2."""
    whole = make_set(tmp_path / "whole", PARAMS, n=12)
    first = np.arange(12) < 5
    return concatenate([whole.where(first).without(IMAGE, ["t2"]), whole.where(~first)])


def test_an_image_that_has_a_channel_is_also_shown_without_it_and_altogether_as_often(some):
    weights = np.linspace(1, 2, 12)
    shown, often = use_networks.with_modality_dropout(some, IMAGE, weights)
    assert len(shown) == 12 + 7
    assert shown.has(IMAGE, "t2").tolist() == [False] * 5 + [True] * 7 + [False] * 7
    np.testing.assert_array_equal(shown.manifest["image_id"][12:], some.manifest["image_id"][5:])
    np.testing.assert_array_equal(
        shown.channels(IMAGE, ["t1", "lesion"])[12:], some.channels(IMAGE, ["t1", "lesion"])[5:]
    )
    for image_id, weight in zip(some.manifest["image_id"], weights, strict=True):
        assert often.numpy()[(shown.manifest["image_id"] == image_id).to_numpy()].sum() == pytest.approx(weight)


def test_where_nothing_may_lack_networks_are_taught_what_there_is(some):
    shown, often = use_networks.with_modality_dropout(some, tiny_params().image)
    assert shown is some
    assert often is None


@pytest.mark.parametrize("may_lack", [[], ["t2"]])
def test_every_row_of_the_table_is_taught_so(some, monkeypatch, may_lack, tmp_path):
    params, seen = tiny_params(image={"may_lack": may_lack}, score={"uses": USES, "seeds": [1]}), []
    use = use_networks.uses(params)["classification"]
    begin = type(use).training
    monkeypatch.setattr(
        type(use),
        "training",
        lambda self, net, images, *rest, **more: seen.append(images) or begin(self, net, images, *rest, **more),
    )
    some.manifest["split"] = "train"
    use_networks.fit(use, params, some, seed=1)
    reference.Federated(params, some, tmp_path / "state")
    assert [len(images) for images in seen] == [19 if may_lack else 12] * 2


def test_synthetic_images_are_held_against_a_site_without_what_it_lacks(some, tmp_path):
    drawn = make_set(tmp_path / "drawn", PARAMS, "synthetic", n=6, split="train", origin="synthetic", model="vae/abc")
    networks_ = {"classification": {1: use_networks.state_of(use_networks.uses(PARAMS)["classification"].network(1))}}

    def beside(real):
        return score.seen(PARAMS, drawn, networks_, tmp_path, real).synthetic

    assert not beside(some.where(~some.has(IMAGE, "t2"))).has(IMAGE, "t2").any()
    assert beside(some).has(IMAGE, "t2").all()
    assert beside(None).has(IMAGE, "t2").all()
    assert drawn.has(IMAGE, "t2").all()


def test_a_channel_that_was_not_taken_stays_blank_when_images_are_varied():
    generator = torch.Generator().manual_seed(0)
    x, masks = torch.rand(6, 2, 8, 8, generator=generator) * 2 - 1, torch.ones(6, 1, 8, 8)
    x[:3, 1] = -1
    varied, _ = augment(x, masks, generator)
    assert (varied[:3, 1] == -1).all()
    assert varied[:3, 0].flatten(1).std(1).min() > 0.1
    assert varied[3:].flatten(2).std(2).min() > 0.1
