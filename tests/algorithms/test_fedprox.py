"""The pull towards the global model."""

import numpy as np
import pytest
import torch

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.algorithms.fedprox import FedProx
from tests import toys


def test_mu_0_is_fedavg_bit_for_bit():
    plain, prox = toys.federate(FedAvg), toys.federate(lambda: FedProx(mu=0))
    for name, array in plain.items():
        np.testing.assert_array_equal(prox[name], array)


def test_the_penalty_is_half_of_mu_times_the_squared_distance_from_what_was_received():
    family, prox = toys.Toy(), FedProx(mu=0.3)
    prox.begin(family, {n: p.detach().clone() for n, p in family.named_parameters()})
    assert float(prox.penalty(family, family.first).detach()) == 0
    with torch.no_grad():
        for p in family.first.parameters():
            p.add_(0.5)
    n = sum(p.numel() for p in family.first.parameters())
    assert float(prox.penalty(family, family.first).detach()) == pytest.approx(0.3 / 2 * 0.25 * n, rel=1e-5)
    assert float(prox.penalty(family, family.second).detach()) == 0


def test_a_greater_mu_keeps_sites_nearer():
    moved = [
        sum(abs(d).sum() for d in toys.trainer(FedProx(mu=mu), epochs=8).round(start(), 0).difference.values())
        for mu in (0, 1, 100)
    ]
    assert moved[0] > moved[1] > moved[2]


def start():
    return {n: p.detach().numpy().copy() for n, p in toys.Toy().named_parameters()}


def test_a_negative_mu_is_an_error():
    with pytest.raises(ValueError, match="mu"):
        FedProx(mu=-1)
