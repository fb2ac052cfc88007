"""Limits of intensity: percentiles of finite values, shared by the slices of a volume."""

import numpy as np

from fedsynth.data.record import Volume, limits_of


def test_limits_are_percentiles_of_the_finite_values():
    values = np.concatenate([np.arange(101.0), [np.nan, np.inf, -np.inf]])
    assert limits_of(values, (0, 100)) == (0, 100)
    assert limits_of(values, (5, 95)) == (5, 95)
    assert limits_of(np.full(3, np.nan), (0, 100)) == (0, 0)
    assert limits_of(np.zeros(0), (0, 100)) == (0, 0)


def test_many_values_give_nearly_the_same_limits_and_their_ends_exactly():
    values = np.random.default_rng(0).normal(size=2**23).astype(np.float32)
    values[123457] = 99
    assert limits_of(values, (0, 100)) == (values.min(), 99)
    np.testing.assert_allclose(limits_of(values, (0.5, 99.5)), np.percentile(values, (0.5, 99.5)), atol=0.02)


def test_a_volume_is_read_once_for_all_of_its_slices():
    read = []

    def channels():
        read.append(1)
        return {"t1": np.arange(11.0), "t2": np.arange(21.0)}

    volume = Volume(channels)
    assert volume.limits("t1", (0, 100)) == volume.limits("t1", (0, 100)) == (0, 10)
    assert volume.limits("t2", (0, 100)) == (0, 20)
    assert len(read) == 1
    assert volume.limits("t2", (0, 50)) == (0, 10)
