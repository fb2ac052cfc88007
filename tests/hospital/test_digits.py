"""Numbers leave with as many digits as their images support: rounding is small beside the error of sampling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsynth.hospital.outgoing import LeakError, arrive, leave
from fedsynth.hospital.outgoing.digits import digits, of_covariance, of_measure, of_use
from tests.hospital.test_outgoing import KNOWN, REFERENCE, ROW, SCORE, put

NUMBERS = st.floats(-1e9, 1e9).filter(lambda v: abs(v) > 1e-9)


@pytest.mark.parametrize(("n", "many"), [(1, 2), (5, 2), (25, 2), (26, 3), (2500, 3), (2501, 4), (250_000, 4)])
def test_a_hundred_times_as_many_images_support_one_digit_more(n, many):
    assert digits(n) == many


@pytest.mark.parametrize("n", [5, 25, 26, 83, 400, 2500, 2501])
def test_the_step_of_a_share_is_between_a_tenth_and_a_hundredth_of_its_standard_error(n):
    assert 0.0099 <= 10.0 ** -digits(n) / (1 / (2 * np.sqrt(n))) <= 0.1


@pytest.mark.parametrize(
    ("value", "n", "left"),
    [
        (0.712345, 40, 0.712),
        (0.712345, 20, 0.71),
        (0.0123, 20, 0.01),
        (12.345, 20, 12.0),
        (12.345, 40, 12.3),
        (1.0, 5, 1),
    ],
)
def test_a_metric_of_a_use(value, n, left):
    assert of_use(value, n) == left


@pytest.mark.parametrize(
    ("value", "n", "left"),
    [(0.00134567, 40, 0.001346), (21.5678, 20, 21.6), (0.951234, 20, 0.951), (-0.0004321, 20, -0.000432)],
)
def test_a_number_of_a_measure_keeps_its_scale(value, n, left):
    assert of_measure(value, n) == left


@settings(max_examples=300)
@given(value=NUMBERS, n=st.integers(1, 10**6))
def test_rounding_twice_changes_nothing(value, n):
    for of in (of_use, of_measure):
        assert of(of(value, n), n) == of(value, n)


@settings(max_examples=200)
@given(
    rows=st.lists(st.lists(st.floats(-1, 1), min_size=4, max_size=4), min_size=4, max_size=4), n=st.integers(5, 9999)
)
def test_a_rounded_covariance_is_symmetric_still_and_rounding_it_twice_changes_nothing(rows, n):
    matrix = np.cov(np.array(rows)).tolist()
    found = of_covariance(matrix, n)
    assert of_covariance(found, n) == found
    assert np.allclose(found, np.transpose(found), atol=0)
    largest = np.abs(matrix).max()
    assert np.abs(np.subtract(found, matrix)).max() <= 0.005 * largest + 1e-300


def test_the_door_rounds_and_the_same_door_takes_no_more_digits_than_that():
    precise = REFERENCE | {"rows": [put(ROW, ("metrics", "dice"), 0.712345)]}
    left = leave("reference", precise, KNOWN)
    assert left["rows"][0]["metrics"]["dice"] == 0.712
    assert arrive("reference", left, KNOWN, 5) == left
    with pytest.raises(LeakError, match=r"rows\.0\.metrics.*does not follow"):
        arrive("reference", precise, KNOWN, 5)


def test_a_count_of_copies_keeps_all_its_digits():
    number = {"value": 1234.0, "floor": 0.0, "low": 1200.123456, "high": 1300.0, "n": {"real": 40, "synthetic": 5000}}
    told = put(SCORE, ("measures",), {"copies": {"values": {"copies_pixel": number}, "moments": {}}})
    assert leave("score", told)["measures"]["copies"]["values"]["copies_pixel"] == number
