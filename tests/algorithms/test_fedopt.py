"""The server's optimiser."""

import numpy as np
import pytest

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


def test_arrays_without_dimensions_keep_their_shape():
    assert FedOpt().aggregate([("a", 1.0, {"w": np.float32(2.0).reshape(())})])["w"].shape == ()
