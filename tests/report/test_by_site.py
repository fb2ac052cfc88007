"""A site that is not in all of the report is named with the reason."""

from __future__ import annotations

from fedsynth.report.by_site import absent

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
