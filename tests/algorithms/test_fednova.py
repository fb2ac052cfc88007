"""Differences divided by the sites' numbers of steps."""

import numpy as np
import pytest

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.algorithms.fednova import FedNova
from tests import toys


def told(steps, averaged=False, **options):
    server = FedNova(**options)
    server.before_aggregate(lambda: None, {}, {}, steps, averaged)
    return server


UPDATES = [("a", 30.0, {"w": np.float32([6.0])}), ("b", 10.0, {"w": np.float32([-1.0])})]


def test_the_change_is_the_papers():
    """tau = 6 and 2, p = 3/4 and 1/4: 5 (3/4 6/6 + 1/4 -1/2) = 3.125."""
    assert told({"a": 6, "b": 2}).aggregate(UPDATES)["w"] == pytest.approx([3.125])


def test_with_equal_steps_it_is_fedavg_to_the_bit():
    change = told({"a": 7, "b": 7}).aggregate(UPDATES)["w"]
    np.testing.assert_array_equal(change, FedAvg().aggregate(UPDATES)["w"])
    assert change.dtype == np.float32


def test_sites_with_as_many_steps_as_images_count_the_same():
    """It is then a plain mean, times (sum p_k tau_k) (sum p_k / tau_k) = 5 (1/8 + 1/8)."""
    plain = FedAvg(weighting="equal").aggregate(UPDATES)["w"]
    np.testing.assert_allclose(told({"a": 6, "b": 2}).aggregate(UPDATES)["w"], 1.25 * plain, rtol=1e-6)


def test_averaged_weights_and_local_parameters_are_not_scaled():
    for server in (told({"a": 6, "b": 2}, averaged=True), told({"a": 6, "b": 2}, local=["w"])):
        np.testing.assert_array_equal(server.aggregate(UPDATES)["w"], FedAvg().aggregate(UPDATES)["w"])


@pytest.mark.parametrize(("ema", "same"), [(None, False), (0.9, True)])
def test_of_a_training_of_one_round_with_averages_it_is_fedavg(ema, same):
    """The sites have 10 and 20 images here, and so 3 and 5 steps."""
    nova, plain = (toys.federate(make, rounds=1, ema=ema, numbers=(10, 20)) for make in (FedNova, FedAvg))
    assert all(np.array_equal(nova[n], plain[n]) for n in plain) is same
