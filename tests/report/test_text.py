"""The report in Markdown has what the page has but for its pictures."""

from __future__ import annotations

import pytest

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
