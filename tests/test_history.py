"""How a training went, in words."""

from __future__ import annotations

from fedsynth import history


def record(number: int, **left_out: str) -> dict:
    return {"round": number, "sites": {"east": {}}} | ({"left_out": left_out} if left_out else {})


def test_a_site_that_was_left_out_is_named_with_its_rounds_and_the_last_reason():
    rounds = [record(0), record(1, north="slow"), record(2, north="slow"), record(3), record(4, north="gone", west="NaN"), record(5)]
    assert history.left_out({"rounds": rounds}) == {"north": "3 of 6 rounds (2-3, 5): gone", "west": "1 of 6 rounds (5): NaN"}


def test_where_all_took_part_nothing_is_said():
    assert history.left_out({"rounds": [record(0), record(1)]}) == {}
    assert history.resumed({"rounds": []}) == ""


def test_the_rounds_with_which_another_job_went_on_are_said():
    assert history.resumed({"resumed_at": [3, 7], "rounds": []}) == "with round 4, 8"
