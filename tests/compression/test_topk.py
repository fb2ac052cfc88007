"""The largest entries."""

import numpy as np
import pytest

from fedsynth.compression import CodingError
from fedsynth.compression.topk import TopK


def test_the_largest_of_each_block_arrive_to_a_hundredth_and_the_others_are_nought():
    x = np.random.default_rng(0).normal(size=600).astype(np.float32)
    there = TopK(1 / 16).decode(TopK(1 / 16).encode(x, [512, 88]), [512, 88])
    for start, end, kept in ((0, 256, 16), (256, 512, 16), (512, 600, 6)):
        largest = np.argsort(-np.abs(x[start:end]))[:kept]
        assert set(np.flatnonzero(there[start:end])) == set(largest)
        np.testing.assert_allclose(
            there[start:end][largest], x[start:end][largest], atol=np.abs(x[start:end]).max() / 250
        )


def test_all_of_them_is_eight_bits_of_all():
    x = np.random.default_rng(0).normal(size=300).astype(np.float32)
    np.testing.assert_allclose(TopK(1.0).decode(TopK(1.0).encode(x, [300]), [300]), x, atol=np.abs(x).max() / 250)


def test_a_sixteenth_takes_one_twenty_eighth_of_the_bytes():
    form = TopK(1 / 16).form([256 * 100])
    assert 4 * 256 * 100 / sum(dtype.itemsize * n for dtype, n in form.values()) == pytest.approx(1024 / 36)


def test_a_place_outside_of_its_block_is_refused():
    coded = TopK(0.1).encode(np.ones(10, np.float32), [10])
    coded["places"] = np.array([10], np.uint8)
    with pytest.raises(CodingError, match="beyond its block"):
        TopK(0.1).decode(coded, [10])


@pytest.mark.parametrize("share", [0, -1, 1.5])
def test_a_share_that_makes_no_sense_is_an_error(share):
    with pytest.raises(ValueError, match="share"):
        TopK(share)
