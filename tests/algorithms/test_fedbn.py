"""Layers that each site has for itself."""

import importlib

import numpy as np
import pytest
import torch
from torch import nn

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.algorithms.fedbn import FedBN
from fedsynth.algorithms.fedopt import FedOpt
from fedsynth.algorithms.scaffold import Scaffold
from fedsynth.errors import UserError
from fedsynth.families import Phase
from fedsynth.privacy.update import UpdateDP
from fedsynth.training.trainer import Trainer
from tests import toys

FAMILIES = ["diffusion.Diffusion", "ddpm.DDPM", "gan.GAN", "vae.VAE", "wgan.WGANGP", "vae_gan.VAEGAN"]
NORMS = (nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)
SECOND = ["second.*"]


def arrays(algorithm) -> dict[str, np.ndarray]:
    return {n: p.detach().numpy().copy() for n, p in algorithm.parameters(toys.Toy()).items()}


@pytest.mark.parametrize("path", FAMILIES)
def test_the_default_patterns_name_the_normalisation_layers_of_a_family_and_nothing_else(path):
    module, name = path.split(".")
    family = getattr(importlib.import_module(f"fedsynth.families.{module}"), name)(
        generated=2, given=0, labels=2, size=(16, 16)
    )
    norms = {f"{at}.{n}" for at, m in family.named_modules() if isinstance(m, NORMS) for n, _ in m.named_parameters()}
    assert {n for n, _ in family.named_parameters() if FedBN().is_local(n)} == norms


def test_local_parameters_do_not_travel_before_the_last_round():
    algorithm = FedBN(local=SECOND)
    names = list(arrays(algorithm))
    assert set(algorithm.arrays_sent(names, last=False)) == {"first.weight", "first.bias"}
    assert algorithm.arrays_sent(names, last=True) == names


def test_a_site_keeps_its_local_parameters_and_tells_them_in_the_last_round_alone():
    algorithm = FedBN(local=SECOND)
    site, start = toys.trainer(algorithm, rounds=2), arrays(algorithm)
    first = site.round({n: start[n] for n in algorithm.arrays_sent(list(start), last=False)}, 0)
    assert set(first.difference) == {"first.weight", "first.bias"}
    kept = site.family.second.weight.detach().numpy().copy()
    algorithm.begin(site.family, {n: torch.from_numpy(a) for n, a in start.items()})
    np.testing.assert_array_equal(site.family.second.weight.detach().numpy(), kept)
    last = site.round(start, 1)
    np.testing.assert_allclose(
        start["second.weight"] + last.difference["second.weight"], site.family.second.weight.detach().numpy(), atol=1e-6
    )


def test_without_local_parameters_it_is_fedavg():
    mine, theirs = toys.federate(lambda: FedBN(local=[])), toys.federate(FedAvg)
    assert all(np.array_equal(mine[n], theirs[n]) for n in theirs)


def test_scaffold_corrects_what_sites_have_in_common_alone():
    algorithm = Scaffold(local=SECOND)
    sent = algorithm.prepare(arrays(algorithm))
    assert {n for n in sent if n.startswith("control:")} == {"control:first.weight", "control:first.bias"}
    update = toys.trainer(algorithm).round(sent, 0)
    assert set(update.difference) == set(sent)


def test_local_parameters_come_with_a_server_optimiser_too():
    algorithm = FedOpt(local=SECOND)
    first = {"first.weight": np.ones(2, np.float32)}
    algorithm.aggregate([("a", 1.0, first)])
    last = algorithm.aggregate([("a", 1.0, first | {"second.weight": np.full(2, 3, np.float32)})])
    np.testing.assert_array_equal(last["second.weight"], [3, 3])


def test_noise_is_on_local_parameters_of_a_player_that_rests_in_the_last_round():
    """They learned from real images in the first phase, and the last round tells all of it at once."""

    class Phased(toys.Toy):
        def phases(self):
            return [Phase(0.5, ("first",)), Phase(0.5, ("second",))]

    algorithm, mechanism = FedAvg(local=["first.*"]), UpdateDP(1.0, clip=0.1)
    site = Trainer(Phased(), algorithm, toys.training(rounds=2), *toys.images(0), None, 1, privacy=mechanism)
    start = {n: p.detach().numpy().copy() for n, p in toys.Toy().named_parameters()}
    site.round({n: start[n] for n in algorithm.arrays_sent(list(start), last=False)}, 0)
    plain = site.family.first.weight.detach().numpy() - start["first.weight"]
    told = site.round(start, 1).difference["first.weight"]
    assert np.abs(plain).max() > 0
    assert not np.allclose(told, plain, atol=1e-3)


def test_an_algorithm_that_would_be_fedavg_says_so():
    with pytest.raises(UserError, match="finds no normalisation layer"):
        FedBN().check(toys.Toy(), 3, False)
    FedBN(local=SECOND).check(toys.Toy(), 3, False)
