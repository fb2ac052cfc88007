"""The coordinate-wise trimmed mean: known values, and that something is always left out and something kept."""

import numpy as np
import pytest

from fedsynth.robust.median import Median
from fedsynth.robust.trimmed_mean import TrimmedMean


def of(*values: float) -> list[tuple]:
    return [(f"site{i}", 1.0 + i, {"w": np.float32([v])}) for i, v in enumerate(values)]


@pytest.mark.parametrize(
    ("share", "values", "expected"),
    [
        (0.2, [-100, 1, 2, 3, 100], 2),
        (0.4, [-100, 1, 5, 3, 100], 3),
        (0.2, [1, 2, 100], 2),  # one of three, too
        (0.3, [0, 1, 2, 3, 4, 5, 6, 7, 8, 90], 4.5),  # 0.3 * 10 is below 3 in floating point
        (0.49, [1, 3, 5, 100], 4),
    ],
)
def test_the_largest_and_the_smallest_of_each_entry_are_left_out(share, values, expected):
    np.testing.assert_allclose(TrimmedMean(share).combine(of(*values))[0]["w"], [expected])


def test_with_all_but_the_middle_left_out_it_is_the_median():
    values = np.random.default_rng(0).normal(size=5)
    assert TrimmedMean(0.45).combine(of(*values))[0]["w"] == Median().combine(of(*values))[0]["w"]


@pytest.mark.parametrize("share", [0, -0.1, 0.5, 1])
def test_a_share_that_leaves_nothing_out_or_everything_is_refused(share):
    with pytest.raises(ValueError, match="share must be above 0"):
        TrimmedMean(share)
