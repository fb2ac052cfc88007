"""The server's optimiser."""

import numpy as np
import pytest
import torch

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.algorithms.fedopt import FedOpt
from tests import toys


def test_sgd_with_lr_1_is_fedavg():
    plain, opt = toys.federate(FedAvg), toys.federate(FedOpt)
    for name, array in plain.items():
        np.testing.assert_allclose(opt[name], array, atol=1e-6)


def test_sgd_scales_the_mean_difference_by_its_lr():
    updates = [("a", 1.0, {"w": np.float32([1, -2])}), ("b", 1.0, {"w": np.float32([3, 0])})]
    np.testing.assert_allclose(FedOpt(lr=0.5).aggregate(updates)["w"], [1, -0.5])


def test_momentum_carries_the_last_round_on():
    server, updates = FedOpt(momentum=0.9), [("a", 1.0, {"w": np.float32([1])})]
    assert server.aggregate(updates)["w"] == pytest.approx([1.0])
    assert server.aggregate(updates)["w"] == pytest.approx([1.9])
    assert server.aggregate(updates)["w"] == pytest.approx([2.71])


def test_the_first_step_of_adam_is_its_lr_in_the_direction_of_the_difference():
    change = FedOpt("Adam", lr=0.01).aggregate([("a", 1.0, {"w": np.float32([5, -0.1])})])
    np.testing.assert_allclose(change["w"], [0.01, -0.01], rtol=1e-4)


@pytest.mark.parametrize(("optimizer", "lr"), [("SGD", 1.0), ("Adam", 0.01)])
def test_what_a_training_ends_with_is_the_mean_of_the_averaged_weights_that_sites_sent(optimizer, lr):
    """Sent 1.0 in every round, of which momentum would make 2.7 and Adam 0.01."""
    server, updates = FedOpt(optimizer, lr=lr, momentum=0.9 if optimizer == "SGD" else None), [site(1.0)]
    for _ in range(2):
        server.aggregate(updates)
    server.before_aggregate(lambda: None, {}, {}, averaged=True)
    assert server.aggregate([site(1.0), site(3.0, "b")])["w"] == pytest.approx([2.0])


def test_the_next_phase_begins_with_a_new_optimiser():
    server = FedOpt(momentum=0.9)
    for averaged in (False, True, False):
        server.before_aggregate(lambda: None, {}, {}, averaged=averaged)
        assert server.aggregate([site(1.0)])["w"] == pytest.approx([1.0])


def test_a_training_with_averages_ends_at_their_mean_whatever_the_servers_optimiser():
    """Of one round, which is the last: FedAvg's, to rounding."""
    plain, adam = (toys.federate(make, rounds=1, ema=0.9) for make in (FedAvg, lambda: FedOpt("Adam", lr=0.01)))
    for name, array in plain.items():
        np.testing.assert_array_equal(adam[name], array)


def test_an_optimiser_other_than_sgd_needs_an_lr():
    with pytest.raises(ValueError, match="optimizer: Adam needs an lr"):
        FedOpt("Adam")
    assert FedOpt("SGD").lr == 1.0


def site(moved: float, name: str = "a"):
    return name, 1.0, {"w": np.float32([moved])}


def test_arrays_without_dimensions_keep_their_shape():
    assert FedOpt().aggregate([("a", 1.0, {"w": np.float32(2.0).reshape(())})])["w"].shape == ()


def adam(g, state, lr, betas=(0.9, 0.999), eps=1e-8):
    """Kingma & Ba 2014, arXiv:1412.6980, algorithm 1."""
    t = state["t"] = state.get("t", 0) + 1
    m = state["m"] = betas[0] * state.get("m", 0) + (1 - betas[0]) * g
    v = state["v"] = betas[1] * state.get("v", 0) + (1 - betas[1]) * g**2
    return -lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)


def adagrad(g, state, lr, eps=1e-10):
    """FedAdagrad, algorithm 2 of the paper, without a moment (beta_1 = 0) and with tau = eps."""
    state["v"] = state.get("v", 0) + g**2
    return -lr * g / (np.sqrt(state["v"]) + eps)


def momentum(g, state, lr, momentum):
    """FedAvgM: Hsu et al. 2019, arXiv:1909.06335, section 4: v = beta v + mean difference, w = w - lr v."""
    state["v"] = momentum * state.get("v", 0) + g
    return -lr * state["v"]


CASES = {
    "Adam": (adam, {"lr": 0.02}),
    "Adam with the paper's betas and tau": (adam, {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-3}),
    "Adagrad": (adagrad, {"lr": 0.1}),
    "SGD": (momentum, {"lr": 0.7, "momentum": 0.9}),
}


@pytest.mark.parametrize("name", CASES)
def test_each_step_is_that_of_the_formulas_for_minus_the_mean_difference(name):
    step, options = CASES[name]
    server, state, rng = FedOpt(name.split()[0], **options), {}, np.random.default_rng(0)
    for _ in range(12):
        a, b = rng.normal(size=(2, 5)).astype(np.float32)
        change = server.aggregate([("a", 3.0, {"w": a}), ("b", 1.0, {"w": b})])["w"]
        expected = step(-(3 * a.astype(np.float64) + b) / 4, state, **options)
        np.testing.assert_allclose(change, expected, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["Adam", "Adagrad", "RMSprop", "NAdam", "SGD"])
def test_the_global_parameters_are_those_of_torchs_optimiser_on_the_pseudo_gradient(name):
    """From parameters that are not 0, with the weights added up as the centre does."""
    rng = np.random.default_rng(1)
    there, updates = rng.normal(size=6).astype(np.float32), rng.normal(size=(8, 6)).astype(np.float32)
    free = torch.nn.Parameter(torch.from_numpy(there.copy()))
    server, optimizer = FedOpt(name, lr=0.01), getattr(torch.optim, name)([free], lr=0.01)
    for update in updates:
        free.grad = -torch.from_numpy(update)
        optimizer.step()
        there = there + server.aggregate([("a", 1.0, {"w": update})])["w"]
    np.testing.assert_allclose(there, free.detach().numpy(), rtol=1e-4, atol=1e-5)
