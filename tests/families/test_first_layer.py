"""How much of an image one unit of a first layer sees, by networks of which that can be counted by hand."""

import copy
import os
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import nn

from fedsynth.families import Family
from fedsynth.families._first_layer import first_layer_share
from fedsynth.families.gan import GAN
from fedsynth.families.regression import Regression
from fedsynth.families.vae import VAE
from fedsynth.hospital.policy.model import Floors
from fedsynth.params import Image, load

ROOT = Path(__file__).parents[2]
IMAGE = Image(size=[32, 32], channels={"t1": "image", "t2": "image", "lesion": "mask"}, labels=["a", "b"])
GIVEN = IMAGE.model_copy(update={"given": ["t2"]})


def built(family, image=IMAGE, **arguments):
    known = {name: image.context()[name] for name in ("generated", "given", "labels", "size")}
    return family(**known, **arguments)


class Layers(Family):
    """A loss that runs the image through some layers."""

    def __init__(self, net: nn.Module, flat: bool = False):
        super().__init__()
        self.net, self.flat = net, flat

    def players(self):
        return {"net": self.net}

    def loss(self, player, x, y, given):
        return self.net(x.flatten(1) if self.flat else x).square().mean()

    def sample(self, y, given=None, generator=None):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("net", "flat", "share"),
    [
        (nn.Conv2d(3, 4, 3), False, 9 / 1024),
        (nn.Conv2d(3, 4, 3, dilation=4), False, 9 / 1024),
        (nn.Conv2d(3, 4, 64, padding=32), False, 1.0),
        (nn.Conv2d(3, 4, (32, 1)), False, 1 / 32),
        (nn.Sequential(nn.PixelUnshuffle(8), nn.Conv2d(192, 4, 3, padding=1)), False, 9 / 16),
        (nn.Sequential(nn.PixelUnshuffle(32), nn.Conv2d(3072, 4, 1)), False, 1.0),
        (nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(3, 4, 3, padding=1)), False, 9 / 1024),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten(), nn.Linear(3072, 5)), False, 1 / 1024),
        (nn.Linear(3072, 5), True, 1.0),
        (nn.Sequential(nn.LayerNorm(3072), nn.Linear(3072, 5)), True, 1.0),
    ],
)
def test_what_a_unit_of_a_first_layer_sees(net, flat, share):
    assert first_layer_share(Layers(net, flat), IMAGE) == pytest.approx(share)


@pytest.mark.parametrize("patch", [2, 4, 8])
def test_of_the_vae_it_is_the_window_of_three_patches(patch):
    assert first_layer_share(built(VAE, channels=[8], patch=patch), IMAGE) == pytest.approx((3 * patch / 32) ** 2)


def test_the_model_of_the_division_attack_sees_the_image_whole():
    assert first_layer_share(built(VAE, channels=[8], patch=32), IMAGE) == 1.0


def test_given_channels_count_where_they_come_in_beside_features():
    image = GIVEN.model_copy(update={"size": (16, 16)})
    seen = [first_layer_share(built(GAN, image, patch=patch, channels=[8], width=8), image) for patch in (2, 16)]
    assert seen[0] < 0.1
    assert seen[1] >= 1 / 3  # the given one of three channels, whole


def test_a_network_of_given_channels_alone():
    assert first_layer_share(built(Regression, GIVEN), GIVEN) == pytest.approx(9 / (3 * 1024))


def test_family_and_random_numbers_are_as_before():
    family = built(VAE)
    before, state = copy.deepcopy(family.state_dict()), torch.get_rng_state()
    first_layer_share(family, IMAGE)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, before[name]) for name, a in family.state_dict().items())
    assert not any(layer._forward_hooks for layer in family.modules())
    assert not any(p.grad is not None for p in family.parameters())


@pytest.mark.parametrize("path", sorted(ROOT.glob("params*.yaml")), ids=lambda path: path.name)
def test_no_model_of_a_params_file_comes_near_to_the_floor(path):
    with mock.patch.dict(os.environ, {"FEDSYNTH_BUSI": "here"}):
        params = load(path)
    for name, model in params.models.items():
        share = first_layer_share(model.family.build(**params.image.context()), params.image)
        assert 0 < share < Floors().first_layer / 2, name
