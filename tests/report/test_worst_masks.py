"""The pictures of failure are the synthetic images in which a network finds least of what their masks say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fedsynth.data import pictures
from fedsynth.report import worst_masks
from fedsynth.report.worst_masks import agreement, failures
from fedsynth.uses.segmentation import Segmentation
from tests.sets import make_set, tiny_params


class Says(nn.Module):
    """Finds the given masks (N, M, *S), whatever it is shown."""

    def __init__(self, masks: np.ndarray):
        super().__init__()
        self.register_parameter("masks", nn.Parameter(torch.tensor(np.where(masks, 1.0, -1.0), dtype=torch.float32)))

    def forward(self, x):
        return self.masks[: len(x)]


@pytest.fixture(scope="module")
def params():
    return tiny_params()


@pytest.fixture(scope="module")
def images(params, tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("set"), params, n=12)


def networks(found: np.ndarray):
    return {"segmentation": (Segmentation(2, 1, (16, 16)), Says(found))}


def test_dice_is_one_where_both_are_empty_and_zero_where_one_is():
    empty, full = np.zeros((1, 1, 4, 4), bool), np.ones((1, 1, 4, 4), bool)
    half = full.copy()
    half[..., :2] = False
    assert [agreement(a, b)[0] for a, b in ((empty, empty), (empty, full), (full, empty), (full, full))] == [1, 0, 0, 1]
    assert agreement(half, full)[0] == pytest.approx(2 / 3)


def test_the_image_whose_lesion_was_not_found_comes_first(params, images):
    found = images.channels(params.image, ["lesion"]) > 0
    found[4] = False  # a lesion that is not seen
    worst = failures(images, params.image, networks(found), 3)
    assert len(worst) == 3
    assert worst[0].dice == 0
    assert np.array_equal(worst[0].image, images.images[4])
    assert worst[0].label == images.manifest["label"][4]
    assert worst[1].dice == 1


def test_a_set_of_several_parts_is_judged_as_one(params, images, monkeypatch):
    class Halves(nn.Module):
        """Finds what is bright, so that what it says of an image does not depend on the others."""

        def __init__(self):
            super().__init__()
            self.cut = nn.Parameter(torch.tensor(0.2))

        def forward(self, x):
            return x[:, :1] - self.cut

    net = {"segmentation": (Segmentation(2, 1, (16, 16)), Halves())}
    whole = failures(images, params.image, net, 5)
    monkeypatch.setattr(worst_masks, "PART", 5)
    parts = failures(images, params.image, net, 5)
    assert [of.dice for of in parts] == [of.dice for of in whole] == sorted(of.dice for of in whole)
    assert all(np.array_equal(a.image, b.image) and np.array_equal(a.found, b.found)
               for a, b in zip(parts, whole, strict=True))  # fmt: skip


def test_without_a_segmentation_network_there_are_none(params, images):
    assert failures(images, params.image, {}) == []


def test_both_masks_are_outlined_in_two_colours(params, images):
    own = images.images[1]
    found = np.roll(own[2:] > 0, 4, -1)
    picture = pictures.misfit(own, found, params.image)
    assert picture.shape == (2 * pictures.TILE + pictures.GAP, pictures.TILE, 4)
    for colour in pictures.OUTLINES[:2]:
        assert (picture[..., :3] == list(bytes.fromhex(colour[1:]))).all(-1).any()


def test_of_a_volume_it_is_the_slice_with_most_of_both_masks():
    image = tiny_params(image={"size": [8, 16, 16]}).image
    whole, found = np.full((3, 8, 16, 16), -1.0, np.float32), np.zeros((1, 8, 16, 16), bool)
    whole[0, 6], found[0, 6, 4:9, 4:9] = 1.0, True
    assert (pictures.misfit(whole, found, image)[: pictures.TILE, :, :3] == 255).any()
