"""The model card says what the run left in files, the verdict first, and no more."""

from __future__ import annotations

import pytest

from fedsynth.report.card import LONGEST, card, model_card
from fedsynth.worth.facts import facts
from tests.judged import judged
from tests.sets import tiny_params
from tests.trained import trained

PARAMS = tiny_params(
    gates={"by": "point", "require": ["classification/retained >= 0.8", "fid <= 1.5 * floor"], "warn": ["kid <= 0.1"]}
)


@pytest.fixture
def about(tmp_path):
    return trained(tmp_path, PARAMS)


@pytest.fixture
def known(about, tmp_path):
    judged(tmp_path)
    return facts(PARAMS, tmp_path, "vae")


def test_it_names_sites_rounds_algorithm_and_job(about):
    text = card(about, None)
    assert "**vae**: VAE, trained by FedAvg over 2 sites; 1 rounds of 1 local epoch; FLARE job `job-0`" in text
    assert "Sites: east (< 5 images), north (24 images)." in text
    assert "Makes t1 + t2 + lesion of size 16x16 for the labels none, infiltrating, extra_axial" in text


def test_a_model_that_was_not_scored_is_not_judged(about):
    assert card(about, None).startswith(
        "**Not judged**: what it is worth and what it gives away has not been measured."
    )
    assert "**Not judged.**" in model_card(about, None)


def test_given_channels_are_what_it_makes_images_from(about):
    about["image"]["given"] = ["t1"]
    assert "Makes t2 + lesion of size 16x16 from t1" in card(about, None)
    assert "makes t2 + lesion of 16 × 16 from t1" in model_card(about, None)


def test_the_verdict_stands_first_with_every_gate_that_does_not_hold(about, known):
    lines = card(about, known).splitlines()
    assert lines[0] == "**Must not be promoted: 1 of 2 required gates does not hold.**"
    assert lines[2:4] == [
        "- required: fid <= 1.5 * floor: 2 is above 1.5, 1.5 times the floor of 1",
        "- warning: kid <= 0.1: missing: not computed, there is no number of this name; did you mean `fid`?",
    ]
    assert model_card(about, known).splitlines()[2].startswith(lines[0])


def test_it_says_worth_what_is_given_away_and_the_worst_site_and_class(about, known):
    known["uses"]["classification"] |= {
        "intervals": {"retained": [0.8, 0.86]},
        "gap_closed": None,
        "why": {"gap_closed": "no gap: x"},
    }
    lines = card(about, known).splitlines()
    assert (
        "| classification | 83 % of pooled (80 to 86\N{NO-BREAK SPACE}%) | not computed: no gap: x | 75 % of the gap to"
        " pooled |" in lines
    )
    (away,) = [line for line in lines if line.startswith("Gives away")]
    assert "copies, by pixels 0; epsilon none; not computed: copies, by features, " in away
    assert "worst at south (balanced accuracy 0.70); worst class extra_axial (sensitivity 0.55)" in card(about, known)


def test_the_whole_card_has_the_headings_of_model_cards_and_every_measure_with_its_floor(about, known):
    text = model_card(about, known)
    for heading in (
        "Model details",
        "Intended use",
        "Factors",
        "Metrics",
        "Evaluation data",
        "Training data",
        "Quantitative analyses",
        "Ethical considerations",
        "Caveats and recommendations",
    ):
        assert f"\n\n## {heading}\n\n" in text, heading
    assert "| FID | 2 | 1.70 to 2.30 | 1 | 40 real · 31 synthetic | lower is better |" in text
    assert "| KID | not computed |" in text
    assert "| membership by loss, AUC | not computed: the family has no loss for one image |" in text
    assert "| epsilon of differential privacy | none |" in text


def test_it_fits_into_mlflows_column_whatever_the_number_of_sites(about, known):
    about["sites"] = {f"hospital-{i}": 100 for i in range(1000)}
    text = card(about, known)
    assert len(text) == LONGEST
    assert text.startswith("**Must not be promoted"), "the end is cut, not the verdict"
