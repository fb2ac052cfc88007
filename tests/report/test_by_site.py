"""A site that is not in all of the report is named with the reason."""

from __future__ import annotations

from fedsynth.params import Split
from fedsynth.report.by_site import absent, by_site, roles
from fedsynth.report.use_tables import NO_GAP
from fedsynth.worth import worth

VALIDATION = {
    "used": ["north", "east"],
    "sites": {"north": {}, "east": {}, "west": {"passed": False}, "south": {"no_answer": "not connected"}},
}


def test_a_site_is_absent_for_its_data_or_for_want_of_an_answer_to_the_validation_or_a_job():
    left_out = {
        "reference": {"east": "not connected"},
        "score of gan": {"east": "no answer in time"},
        "score of vae": {},
    }
    found = absent(VALIDATION, left_out)
    assert list(found) == ["west", "south", "east"]
    assert found["west"].startswith("its data failed validation")
    assert found["south"].startswith("no answer to the validation (not connected)")
    assert "no answer to reference (not connected)" in found["east"]
    assert "no answer to score of gan (no answer in time)" in found["east"]


def test_where_all_answered_nobody_is_absent():
    assert absent({"used": ["north"], "sites": {"north": {}}}, {"reference": {}}) == {}


def test_a_site_that_only_trains_or_only_tests_is_named_with_what_that_means():
    split = Split(train_only=["west"], test_only=["south"])
    found = roles(split, ["north", "west", "south"])
    assert list(found) == ["west", "south"]
    assert found["west"].startswith("trains only")
    assert found["south"].startswith("tests only")


def test_a_site_that_tests_only_has_no_gap_to_close_and_that_is_not_missing():
    of = {"retained_by_site": {"north": 0.9, "south": 0.8}, "gap_closed_by_site": {"north": None}}
    lines = by_site("c", {"vae": {"c": of}}, ["vae"], ["north", "south"])["lines"]
    assert [line["cells"]["vae"]["gap_closed"] for line in lines] == [None, worth.TESTS_ONLY]


def test_a_site_without_a_gap_to_close_is_told_from_one_without_a_score():
    why = {"gap_closed@north": "no gap: pooled 0.900 is not 0.05 above local 0.880", "gap_closed@south": "missing"}
    of = {"retained_by_site": {"north": 0.9}, "gap_closed_by_site": {"north": None, "south": None}, "why": why}
    lines = by_site("c", {"vae": {"c": of}}, ["vae"], ["north", "south"])["lines"]
    assert [line["cells"]["vae"]["gap_closed"] for line in lines] == [NO_GAP, None]
