"""Why a run failed, in a sentence that names no file, and whom it concerns."""

from __future__ import annotations

import pytest

from fedsynth.hospital.failures import FAILURES
from flows.concerns import ENGINEER, UNKNOWN, failure, message

SITES = ["north", "east", "St. Anna"]


@pytest.mark.parametrize("key", FAILURES)
def test_what_a_hospital_sends_concerns_someone_there(key):
    found = failure("train@vae", f"1 of 2 sites answered: site north: {FAILURES[key]}", SITES, "4f2a")
    assert found.said == f"site north: {FAILURES[key]} (job 4f2a)"
    officer = key in ("policy", "paused", "privacy", "withheld")
    assert found.concerns == f"north's {'data protection officer' if officer else 'data manager'}"


@pytest.mark.parametrize(("why", "said", "concerns"), [
    ("not connected: east, north; 3 sites are needed and were waited for 60 s.", "sites north, east not connected",
     "north's data manager, east's data manager"),
    ("site St. Anna died (its process is gone); the job was ended (/x/log)", "site St. Anna died",
     "St. Anna's data manager"),
    ("site east: Diverged: the loss of unet is nan (/x/log)", f"site east: {FAILURES['diverged']}",
     "east's data manager"),
    ("site east: KeyError: Mueller^Anna.png", f"site east: {FAILURES['error']}", "east's data manager"),
    ("site east died (its process is gone); the job was ended (/x/log)", "site east died", "east's data manager"),
    ("St. Anna: no update within the time of grace", "site St. Anna answered no more", "St. Anna's data manager"),
    ("no verdict from north: not connected", "site north gave no verdict", "north's data manager"),
    ("no sign of life from job 1 for 60 s, so it was aborted", "the job gave no sign of life", ENGINEER),
    ("ValueError: north/scan_0042.png cannot be read", UNKNOWN, ENGINEER),
])  # fmt: skip
def test_other_errors_are_said_in_words_of_a_closed_list(why, said, concerns):
    found = failure("score@gan", why, SITES)
    assert (found.said, found.concerns) == (said, concerns)


def test_validation_names_the_sites_and_no_row():
    why = "validation failed at north, east\nnorth: every image can be read: row 3, Mueller^Anna.png\nMend the data"
    found = failure("validate", why, SITES)
    assert found.sentence == (
        "validate, the data of sites north, east failed validation; concerns: north's data manager, east's data manager"
    )


def test_two_sites_that_failed_in_different_ways_are_both_named():
    why = f"site north: {FAILURES['data']}; site east: {FAILURES['policy']}"
    assert failure("train@vae", why, SITES).concerns == "north's data manager, east's data protection officer"


def test_the_message_of_a_run_says_what_failed_and_whom_it_concerns():
    found = failure("train@vae", "north: no update within the time of grace", SITES, "4f2a")
    assert message("nightly", "busi", [found]) == (
        "nightly of busi failed: train@vae, site north answered no more (job 4f2a); concerns: north's data manager"
    )
