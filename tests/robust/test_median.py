"""The coordinate-wise median: known values."""

import numpy as np
import pytest

from fedsynth.robust.median import Median


@pytest.mark.parametrize(("values", "expected"), [([1, 2, 100], 2), ([1, 2, 4, 100], 3), ([-9, 5, 5, 5, 9], 5)])
def test_it_is_the_middle_value_of_each_entry(values, expected):
    updates = [(f"site{i}", 1.0 + i, {"w": np.float32([v, -v])}) for i, v in enumerate(values)]
    np.testing.assert_array_equal(Median().combine(updates)[0]["w"], [expected, -expected])


def test_entries_are_compared_one_by_one():
    updates = [("a", 1.0, {"w": np.float32([0, 9])}), ("b", 1.0, {"w": np.float32([9, 0])}),
               ("c", 1.0, {"w": np.float32([1, 1])})]  # fmt: skip
    np.testing.assert_array_equal(Median().combine(updates)[0]["w"], [1, 1])
