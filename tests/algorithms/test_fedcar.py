"""Weights by how far a site's images are from the others'."""

import numpy as np
import pytest
import torch

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.algorithms.fedcar import FedCAR, distance
from fedsynth.errors import UserError
from tests import toys


class Flat(toys.Toy):
    """Draws images of the brightness of its first bias, with a little noise."""

    labels = 3

    def sample(self, y, given=None, generator=None):
        return self.first.bias[:, None, None].detach() + 0.1 * torch.randn((len(y), 2, 4, 4), generator=generator)


def updates(*levels: float, images: float = 10.0):
    start = {n: np.zeros(p.shape, np.float32) for n, p in toys.Toy().named_parameters()}
    moved = [start | {"first.bias": np.full(2, level, np.float32)} for level in levels]
    return start, [(f"site{i}", images, d) for i, d in enumerate(moved)]


def told(algorithm: FedCAR, start) -> FedCAR:
    algorithm.before_aggregate(Flat, start, {})
    return algorithm


def test_a_site_whose_images_are_unlike_the_others_counts_less():
    start, sites = updates(0.0, 0.05, 0.9)
    near = told(FedCAR(), start).nearness(sites)
    assert near["site2"] < near["site0"]
    assert near["site2"] < near["site1"]
    change = told(FedCAR(), start).aggregate(sites)["first.bias"][0]
    assert change < FedAvg().aggregate(sites)["first.bias"][0]


def test_the_sharper_the_less_it_counts_and_sharpness_0_is_fedavg():
    start, sites = updates(0.0, 0.05, 0.9)
    changes = [told(FedCAR(sharpness=s), start).aggregate(sites)["first.bias"][0] for s in (0.0, 1.0, 4.0)]
    assert changes[0] == FedAvg().aggregate(sites)["first.bias"][0]
    assert changes[0] > changes[1] > changes[2]


def test_sites_with_the_same_images_count_by_their_number_of_images():
    start, sites = updates(0.3, 0.3, 0.3)
    assert set(told(FedCAR(), start).nearness(sites).values()) == {1.0}


def test_the_distance_of_a_set_to_itself_is_0_and_grows():
    a = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)).double()
    assert distance(a, a) == pytest.approx(0, abs=1e-12)
    assert 0 < distance(a, a + 0.5) < distance(a, a + 2)


def test_given_channels_are_refused_because_the_server_has_none():
    family = toys.Toy()
    FedCAR().check(family, 3, False)
    with pytest.raises(UserError, match="leave `local` out"):
        FedCAR(local=["first.*"]).check(family, 3, False)
    family.given = 1
    with pytest.raises(UserError, match="has no given channels"):
        FedCAR().check(family, 3, False)


def test_a_negative_sharpness_is_refused():
    with pytest.raises(ValueError, match="sharpness"):
        FedCAR(sharpness=-1)
