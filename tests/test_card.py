"""The model card says what the run left in files, and no more."""

from __future__ import annotations

import math

import pytest

from fedsynth.card import LONGEST, card
from tests.sets import tiny_params
from tests.trained import trained


@pytest.fixture
def about(tmp_path):
    return trained(tmp_path, tiny_params())


def test_it_names_sites_rounds_algorithm_and_job(about):
    text = card(about, {})
    assert "**vae**: VAE, trained by FedAvg over 2 sites: east (< 5 images), north (24 images)." in text
    assert "1 rounds of 1 local epochs; FLARE job `job-0`" in text
    assert "Makes t1 + t2 + lesion of size 16x16 for the labels none, infiltrating, extra_axial" in text
    assert "has not been measured" in text


def test_given_channels_are_what_it_makes_images_from(about):
    about["image"]["given"] = ["t1"]
    assert "Makes t2 + lesion of size 16x16 from t1" in card(about, {})


def test_worth_is_a_table_in_which_what_was_not_computed_says_so(about):
    worth = {"classification": {"retained": 0.912, "gap_closed": math.nan, "gap_closed_poorest": 0.25}, "segmentation": {"retained": None}}
    lines = card(about, worth).splitlines()
    assert "| classification | 91% | not computed | 25% |" in lines
    assert "| segmentation | not computed | not computed | not computed |" in lines


def test_it_fits_into_mlflows_column_whatever_the_number_of_sites(about):
    about["sites"] = {f"hospital-{i}": 100 for i in range(1000)}
    assert len(card(about, {})) == LONGEST
