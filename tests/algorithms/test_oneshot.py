"""Sites' own models, and their mixture."""

import numpy as np
import pytest
import torch

from fedsynth.algorithms.oneshot import OneShot
from fedsynth.errors import UserError
from fedsynth.families import Mixture
from fedsynth.families.vae import VAE
from fedsynth.training import weights
from tests import toys


def constant(value: float) -> toys.Toy:
    family = toys.Toy()
    family.sample = lambda y, given=None, generator=None: torch.full((len(y), 2, 4, 4), value)
    return family


def test_the_centre_gets_each_sites_own_model_beside_the_mean():
    sent, up = {"w": np.float32([1, 1])}, {"a": np.float32([1, 0]), "b": np.float32([0, 2])}
    beside = OneShot().extra_arrays(sent, [(site, 1.0, {"w": d}) for site, d in up.items()])
    np.testing.assert_array_equal(beside["a/w"], [2, 1])
    np.testing.assert_array_equal(beside["b/w"], [1, 3])


def test_a_second_round_is_refused():
    with pytest.raises(UserError, match=r"training\.rounds: 1, not 3"):
        OneShot().check(toys.Toy(), 3, False)
    OneShot().check(toys.Toy(), 1, True)


def test_a_class_is_drawn_by_the_sites_that_have_it_in_proportion_to_their_images():
    mixture = Mixture({"a": constant(-1.0), "b": constant(1.0)}, torch.tensor([[30.0, 0.0], [10.0, 5.0]]))
    y = torch.tensor([0, 1]).repeat(400)
    drawn = mixture.sample(y, generator=torch.Generator().manual_seed(0))[:, 0, 0, 0]
    assert (drawn[y == 1] == 1).all()  # only b has images of class 1
    assert abs(float((drawn[y == 0] == -1).float().mean()) - 0.75) < 0.08


def test_the_same_generator_gives_the_same_images():
    mixture = Mixture({"a": toys.Toy(), "b": toys.Toy(1)}, torch.ones(2, 3))
    a, b = (mixture.sample(torch.arange(6) % 3, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(a, b)


def test_an_attack_may_ask_every_member():
    mixture = Mixture({"a": toys.Toy(), "b": toys.Toy(1)}, torch.ones(2, 3))
    assert set(mixture.players()) == {"a/first", "a/second", "b/first", "b/second"}
    x, y = toys.images(0)
    torch.manual_seed(0)
    mine = mixture.loss("b/first", x, y, None)
    torch.manual_seed(0)
    assert torch.equal(mine, mixture.members["b"].loss("first", x, y, None))


def test_weights_of_several_sites_become_their_mixture():
    args = {"latent": 2, "channels": [8, 8]}
    image = {"size": [8, 8], "channels": {"t1": "image"}, "labels": ["x", "y"]}
    about = {"name": "one", "family": {"class_path": "fedsynth.families.vae.VAE", "args": args}, "image": image,
             "algorithm": {"class_path": "fedsynth.algorithms.oneshot.OneShot", "args": {}},
             "mixture": {"a": [3, 0], "b": [1, 2]}}  # fmt: skip
    torch.manual_seed(0)
    sites = {site: VAE(1, 0, 2, (8, 8), **args) for site in "ab"}
    mean = {n: p.detach().numpy() for n, p in sites["a"].named_parameters()}
    own = {f"{site}/{n}": p.detach().numpy() for site, of in sites.items() for n, p in of.named_parameters()}
    family = weights.build_family(about, mean | own)
    assert isinstance(family, Mixture)
    assert family.shares.tolist() == [[3, 0], [1, 2]]
    for site, of in sites.items():
        assert all(torch.equal(p, dict(family.members[site].named_parameters())[n]) for n, p in of.named_parameters())
