"""How a training went, in words."""

from __future__ import annotations

import pytest

from fedsynth.training import history


def record(number: int, **left_out: str) -> dict:
    return {"round": number, "sites": {"east": {}}} | ({"left_out": left_out} if left_out else {})


def test_a_site_that_was_left_out_is_named_with_its_rounds_and_the_last_reason():
    rounds = [
        record(0),
        record(1, north="slow"),
        record(2, north="slow"),
        record(3),
        record(4, north="gone", west="NaN"),
        record(5),
    ]
    assert history.left_out({"rounds": rounds}) == {
        "north": "3 of 6 rounds (2-3, 5): gone",
        "west": "1 of 6 rounds (5): NaN",
    }


def test_a_site_that_was_bounded_is_named_with_its_rounds_and_what_was_done_to_it_last():
    rounds = [record(0), record(1) | {"bounded": {"north": "norm 3 times"}}, record(2) | {"bounded": {"north": "12"}}]
    assert history.bounded({"rounds": rounds}) == {"north": "2 of 3 rounds (2-3): 12"}
    assert history.bounded({"rounds": [record(0)]}) == {}


def test_where_all_took_part_nothing_is_said():
    assert history.left_out({"rounds": [record(0), record(1)]}) == {}
    assert history.resumed({"rounds": []}) == ""


def test_the_rounds_with_which_another_job_went_on_are_said():
    assert history.resumed({"resumed_at": [3, 7], "rounds": []}) == "with round 4, 8"


def test_bytes_are_means_of_the_rounds_and_a_sum_of_the_training_also_of_a_site_that_missed_a_round():
    north, east = (
        {"bytes_up": 100, "bytes_down": 200, "bytes_asking": 10},
        {"bytes_up": 50, "bytes_down": 60, "bytes_asking": 0},
    )
    rounds = [record(0) | {"traffic": {"north": north, "east": east}}, record(1) | {"traffic": {"north": north}}]
    found = history.traffic({"rounds": rounds})
    assert found == {
        "north": {"down": 200, "up": 100, "asking": 10, "all": 620},
        "east": {"down": 30, "up": 25, "asking": 0, "all": 110},
    }
    assert history.traffic({"rounds": [record(0)]}) == {}


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 B"), (999, "999 B"), (1234, "1.23 kB"), (812_000, "812 kB"), (5e12, "5 TB")]
)
def test_bytes_are_said_in_the_unit_that_fits(count, said):
    assert history.sized(count) == said
