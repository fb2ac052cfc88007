"""The report in Markdown has what the page has but for its pictures."""

from __future__ import annotations

import pytest

from fedsynth.data.mends import AGAIN, EMPTIED
from fedsynth.report.by_site import by_class
from fedsynth.report.text import markdown
from fedsynth.report.use_tables import use_table
from tests.facts_made import facts_of

SITES = ["north", "e|ast"]
FACTS = {"vae": facts_of("vae", sites=tuple(SITES))}


def rows(seed: int) -> list[dict]:
    metrics = {"dice": 0.5 + 0.1 * seed, "hd95": 3.0, "dice.a": 0.25}
    return [
        {
            "use": "segmentation",
            "name": "synthetic",
            "trained_on": "vae",
            "model": "vae",
            "site": site,
            "seed": seed,
            "metrics": metrics,
            "n": {"dice": 40, "hd95": 40, "dice.a": "< 5" if site == "north" else 20},
        }
        for site in SITES
    ]


@pytest.fixture(scope="module")
def text() -> str:
    made = [*rows(1), *rows(2)]
    summary = {"vae": {"segmentation": FACTS["vae"]["uses"]["segmentation"] | {"against": "federated"}}}
    facts = {"vae": FACTS["vae"] | {"uses": summary["vae"]}}
    uses = [use_table("segmentation", made, ["vae"], SITES, summary)]
    classes = [by_class("segmentation", made, ["vae"], SITES, 5)]
    return markdown(
        uses, facts, SITES, classes, [("retained", "a | b")], {"w<st": "no answer to reference (not connected)"}
    )


def line(text: str, start: str) -> str:
    return next(of for of in text.splitlines() if of.startswith(start))


def test_each_measure_stands_with_its_images_and_the_extractor_is_named(text):
    assert line(text, "| KID |").endswith("| 48 real · 70 train · 70 synthetic |")
    assert line(text, "| copies, by pixels |").endswith("| 48 real · 70 train · 70 synthetic |")
    assert "Features: penultimate layer of the federated classification network (16 features)." in text


def test_seeds_give_a_deviation_at_each_site_and_of_the_mean(text):
    assert line(text, "| vae, synthetic |").startswith("| vae, synthetic | 0.65 ± 0.07 | 93")
    assert line(text, "| vae, synthetic |").endswith("| 0.65 ± 0.07 | 0.65 ± 0.07 |")


def test_every_metric_has_a_table_and_says_where_lower_is_better(text):
    assert "| HD95 (pixels), lower is better | mean | north (n = 40) | e\\|ast (n = 40) |" in text


def test_by_class_what_rests_on_few_images_is_withheld_and_the_worst_is_named(text):
    assert "| Dice of a | vae | withheld | 0.25 |" in text
    assert "Worst: vae: Dice of a at e\\|ast (0.25, of those known)." in text


def test_shares_are_said_to_be_of_what_they_are_of(text):
    assert "| Dice | mean | retained (of federated) | gap closed (to federated) |" in text
    assert "| segmentation, beside federated | vae, retained | vae, gap closed |" in text


def test_a_site_that_did_not_answer_is_named_and_definitions_are_there(text):
    assert "- Left out: w&lt;st: no answer to reference (not connected)." in text
    assert "# How each number was made\n\n- **retained**: a \\| b." in text


def test_what_was_mended_calibration_by_group_and_worth_beyond_public_images_are_there():
    beyond = {"over_public": 0.12, "over_public_interval": [0.05, 0.19]}
    of = FACTS["vae"]["uses"]["segmentation"] | {"against": "federated"} | beyond
    entry = {"use": "segmentation", "site": "north", "by": "sex", "group": "female", "low": 0.1, "high": 0.3}
    known = [
        entry | {"name": "synthetic", "n": 22, "value": 0.21},
        entry | {"name": "synthetic", "by": "site", "group": "all", "n": 40, "value": 0.15, "low": None, "high": None},
        entry | {"name": "federated", "n": 22, "value": 0.08},
    ]
    counts = {"without": 100, "with": 200, EMPTIED: 29, AGAIN: 4}
    mends = {"labels": ["none"], "counts": counts, "rates": {EMPTIED: 0.29, AGAIN: 4 / 204}}
    facts = {"vae": FACTS["vae"] | {"uses": {"segmentation": of}, "calibration": known, "mends": mends}}
    made = [*rows(1), *({**row, "name": "public", "model": "", "trained_on": "public"} for row in rows(1))]
    text = markdown([use_table("segmentation", made, ["vae"], SITES, {"vae": facts["vae"]["uses"]})], facts, SITES)
    assert "| masks emptied | 29\N{NO-BREAK SPACE}% (29 of 100) |" in text
    assert "| images drawn again | 1.96\N{NO-BREAK SPACE}% (4 of 204) |" in text
    assert "| segmentation, calibration error | group | vae | federated |" in text
    assert "| north | sex female | 0.21 (0.10 to 0.30, n = 22) | 0.08 (0.10 to 0.30, n = 22) |" in text
    assert "| north | all test images | 0.15 (n = 40) | missing |" in text
    assert "female at north (0.21, 95 % 0.10 to 0.30, n = 22)" in line(text, "Worst: vae: ")
    assert "synthetic − public" in line(text, "| Dice |")
    assert "+0.12" in line(text, "| vae, synthetic |")


def test_without_them_nothing_is_said_of_them(text):
    assert not any(word in text for word in ("mended", "calibration error", "− public"))
