"""Averages."""

import numpy as np

from fedsynth.algorithms.fedavg import FedAvg


def test_the_change_is_the_mean_of_the_differences_weighted_by_the_number_of_images():
    updates = [("b", 1.0, {"w": np.float32([0, 4])}), ("a", 3.0, {"w": np.float32([4, 0])})]
    np.testing.assert_array_equal(FedAvg().aggregate(updates)["w"], np.float32([3, 1]))


def test_a_single_site_gets_back_what_it_sent():
    d = np.random.default_rng(0).normal(size=50).astype(np.float32)
    np.testing.assert_array_equal(FedAvg().aggregate([("a", 7.0, {"w": d})])["w"], d)


def test_the_types_of_the_arrays_stay():
    assert FedAvg().aggregate([("a", 1.0, {"w": np.float32([1])}), ("b", 2.0, {"w": np.float32([2])})])["w"].dtype == np.float32
