"""Control variates: they cancel where there is nothing to correct, and their rule is the paper's."""

import numpy as np
import pytest
import torch

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.algorithms.scaffold import PREFIX, Scaffold
from fedsynth.training.schedules import decay
from tests import toys


def start():
    return {n: p.detach().numpy().copy() for n, p in toys.Toy().named_parameters()}


def test_one_site_alone_is_fedavg():
    # With one site c = c_i after every round, so that the correction is 0.
    plain, scaffold = toys.federate(FedAvg, sites=1), toys.federate(Scaffold, sites=1)
    for name, array in plain.items():
        np.testing.assert_allclose(scaffold[name], array, atol=1e-6)


def test_the_first_round_is_fedavg():
    plain, scaffold = toys.federate(FedAvg, rounds=1), toys.federate(Scaffold, rounds=1)
    for name, array in plain.items():
        np.testing.assert_array_equal(scaffold[name], array)


def test_a_sites_control_becomes_the_mean_gradient_of_its_steps():
    # Option II with plain steps: x - y_i = eta sum of the gradients, so c_i+ = c_i - c + (x - y_i) / (K eta).
    t = toys.trainer(Scaffold())
    sent = t.algorithm.prepare(start())
    update = t.round(sent, 0)
    travelled = sum(0.05 * decay(t.training, step / 3 / 3) for step in range(3))
    for name in start():
        np.testing.assert_allclose(
            t.algorithm.state()["control"][name], -update.difference[name] / travelled, rtol=1e-4, atol=1e-7
        )
        np.testing.assert_allclose(
            update.difference[PREFIX + name], t.algorithm.state()["control"][name], rtol=1e-4, atol=1e-7
        )


@pytest.mark.parametrize(("weighting", "weights"), [("images", [1.0, 10.0, 100.0]), ("equal", [1.0, 1.0, 1.0])])
def test_the_servers_control_is_the_mean_of_the_sites_controls_by_the_weights_of_their_parameters(weighting, weights):
    server, sites = Scaffold(weighting=weighting), [toys.trainer(Scaffold(), site, seed=site) for site in range(3)]
    current = server.prepare(start())
    for number in range(2):
        updates = [(f"s{i}", float(10**i), t.round(current, number).difference) for i, t in enumerate(sites)]
        change = server.aggregate(updates)
        current = {n: a + change[n] for n, a in current.items()}
        for name in start():
            mean = np.average([t.algorithm.state()["control"][name] for t in sites], axis=0, weights=weights)
            np.testing.assert_allclose(current[PREFIX + name], mean, rtol=1e-3, atol=1e-5)


def test_the_correction_is_a_step_of_the_same_learning_rate():
    family, scaffold = toys.Toy(), Scaffold()
    received = {n: torch.from_numpy(a) for n, a in scaffold.prepare(start()).items()}
    received[PREFIX + "first.bias"] = torch.tensor([1.0, -2.0])  # c, while c_i = 0
    scaffold.begin(family, received)
    before = family.first.bias.detach().clone()
    scaffold.after_step(family, family.first, lr=0.1)
    assert torch.allclose(family.first.bias, before - 0.1 * torch.tensor([1.0, -2.0]))
