"""What the report says of a use is what the rows say, and a measure that was not computed is missing."""

from __future__ import annotations

import math

import pytest

from fedsynth.report.use_tables import ends, headline, use_table
from fedsynth.uses.classification import Classification
from fedsynth.uses.segmentation import Segmentation
from fedsynth.worth.wording import LOWER_IS_BETTER, is_number

SITES = ["north", "east"]


def row(
    name: str, site: str, value: float | None, model: str = "", seed: int = 1, use: str = "segmentation", **more: float
) -> dict:
    trained_on = {"local": site, "augmented": site, "pooled": "all", "synthetic": model}[name]
    metrics = {"dice": value} | more
    return {
        "use": use,
        "name": name,
        "trained_on": trained_on,
        "model": model,
        "site": site,
        "seed": seed,
        "metrics": metrics,
        "n": dict.fromkeys(metrics, 40),
    }


def both(name: str, north: float | None, east: float | None, model: str = "", seed: int = 1) -> list[dict]:
    return [row(name, "north", north, model, seed), row(name, "east", east, model, seed)]


REFERENCE = both("local", 0.6, 0.4) + both("pooled", 0.8, 0.8)
VAE = both("synthetic", 0.5, 0.5, "vae") + both("augmented", 0.6, 0.5, "vae")
GAN = both("synthetic", 0.7, 0.6, "gan") + both("augmented", 0.7, 0.7, "gan")


def lines(rows: list[dict], models: list[str]) -> dict[str, dict]:
    table = use_table("segmentation", rows, models, SITES)["tables"][0]
    return {f"{line['model']} {line['name']}".strip(): line for line in table["lines"]}


def test_the_lines_hold_what_the_rows_hold():
    found = lines(REFERENCE + VAE + GAN, ["vae", "gan"])
    assert list(found) == [
        "local",
        "federated",
        "pooled",
        "vae synthetic",
        "vae augmented",
        "gan synthetic",
        "gan augmented",
    ]
    assert found["local"]["cells"] == {"north": 0.6, "east": 0.4}
    assert math.isclose(found["gan synthetic"]["mean"], 0.65)


def test_retained_and_the_gap_closed_stand_beside_their_lines():
    found = lines(REFERENCE + GAN, ["gan"])
    assert math.isclose(found["gan synthetic"]["judged"]["retained"], 0.8125, abs_tol=1e-4)
    assert found["gan augmented"]["judged"] == pytest.approx(
        {"gap_closed": 0.6667, "gap_closed_poorest": 0.75, "poorest_site": "east"}, abs=1e-4
    )


def test_the_best_model_is_marked_and_only_where_there_is_a_choice():
    found = lines(REFERENCE + VAE + GAN, ["vae", "gan"])
    assert [name for name, line in found.items() if line["best"]] == ["gan synthetic", "gan augmented"]
    assert not any(line["best"] for line in lines(REFERENCE + GAN, ["gan"]).values())


def test_where_lower_is_better_the_lowest_is_best():
    rows = [
        row("synthetic", s, 0.5, m, false_positive_rate=rate) for m, rate in (("vae", 0.1), ("gan", 0.3)) for s in SITES
    ]
    table = use_table("segmentation", rows, ["vae", "gan"], SITES)["tables"][1]
    assert [line["model"] for line in table["lines"] if line["best"]] == ["vae"]


def test_what_was_never_computed_is_none_and_what_is_not_defined_is_nan():
    found = lines(both("local", 0.6, None) + VAE, ["vae", "gan"])
    assert found["pooled"]["cells"] == {"north": None, "east": None}
    assert math.isnan(found["local"]["cells"]["east"])
    assert math.isnan(found["local"]["mean"])
    assert found["gan synthetic"]["mean"] is None
    assert found["vae synthetic"]["judged"]["retained"] is None, "without pooled it cannot be known"


def test_a_gap_that_is_none_is_said_to_be_none_and_not_missing():
    found = lines(both("local", 0.8, 0.8) + both("pooled", 0.8, 0.8) + VAE, ["vae"])
    assert found["vae augmented"]["judged"]["gap_closed"] == "no gap"


@pytest.mark.parametrize(
    ("own", "said"), [(0.8, "lowers the Dice from 0.80 to 0.55"), (0.5, "raises the Dice from 0.50 to 0.55")]
)
def test_without_a_gap_the_headline_says_what_adding_the_set_does(own, said):
    text = headline(
        use_table("segmentation", both("local", own, own) + both("pooled", own, own) + VAE, ["vae"], SITES)
    )["text"][1]
    assert said in text
    assert "no gap to close" in text


def test_one_site_without_a_score_leaves_the_mean_missing():
    found = lines([*REFERENCE, row("synthetic", "north", 0.5, "vae")], ["vae"])
    assert found["vae synthetic"]["mean"] is None


def test_several_seeds_give_a_mean_and_a_deviation_at_each_site():
    found = lines(both("synthetic", 0.4, 0.5, "vae", 1) + both("synthetic", 0.6, 0.5, "vae", 2), ["vae"])
    assert math.isclose(found["vae synthetic"]["cells"]["north"], 0.5)
    assert math.isclose(found["vae synthetic"]["std"]["north"], math.sqrt(0.02))
    assert use_table("segmentation", both("local", 1, 1, seed=3), [], SITES)["seeds"] == [3]


def test_the_mean_deviates_as_the_seeds_means_do_and_not_as_the_sites():
    found = lines(both("synthetic", 0.4, 0.6, "vae", 1) + both("synthetic", 0.6, 0.4, "vae", 2), ["vae"])
    assert found["vae synthetic"]["mean_std"] == pytest.approx(0)
    found = lines(both("synthetic", 0.4, 0.5, "vae", 1) + both("synthetic", 0.6, 0.7, "vae", 2), ["vae"])
    assert found["vae synthetic"]["mean_std"] == pytest.approx(math.sqrt(0.02))


def test_without_a_second_seed_or_with_a_site_missing_the_mean_has_no_deviation():
    assert math.isnan(lines(both("synthetic", 0.4, 0.5, "vae"), ["vae"])["vae synthetic"]["mean_std"])
    found = lines([*both("synthetic", 0.4, 0.5, "vae", 1), row("synthetic", "north", 0.5, "vae", 2)], ["vae"])
    assert math.isnan(found["vae synthetic"]["mean_std"])


def test_a_site_that_did_not_answer_or_has_too_few_images_is_missing_and_not_undefined():
    silent = row("synthetic", "east", None, "vae") | {"n": {}, "left_out": "not connected"}
    few = row("local", "east", None) | {"n": {"dice": "< 5"}}
    table = use_table("segmentation", [row("synthetic", "north", 0.5, "vae"), silent, few], ["vae"], SITES)["tables"][0]
    assert [line["cells"]["east"] for line in table["lines"] if line["name"] in ("local", "synthetic")] == [None, None]
    assert table["n"]["east"] in ("< 5", None)


def test_the_headline_names_the_best_model_with_both_measures():
    said = headline(use_table("segmentation", REFERENCE + VAE + GAN, ["vae", "gan"], SITES))
    assert said["retained"] == ("gan", pytest.approx(0.8125, abs=1e-4))
    assert said["gap_closed"] == ("gan", pytest.approx(0.6667, abs=1e-4))
    text = " ".join(said["text"]).replace("\N{NO-BREAK SPACE}", " ")
    assert "Dice of 0.65" in text
    assert "81 % of the 0.80" in text
    assert "75 % at east, the poorest site" in text


def test_a_set_that_does_harm_is_not_praised():
    rows = REFERENCE + both("synthetic", 0.3, 0.3, "vae") + both("augmented", 0.5, 0.3, "vae")
    assert "does harm" in headline(use_table("segmentation", rows, ["vae"], SITES))["text"][1]


def test_without_pooled_the_headline_claims_no_share():
    said = headline(use_table("segmentation", both("local", 0.6, 0.4) + GAN, ["gan"], SITES))
    assert not is_number(said["retained"][1])
    assert "missing" in said["text"][0]
    assert "from 0.50 to 0.70" in said["text"][1]
    assert "%" not in " ".join(said["text"])


def test_a_use_without_any_row_is_missing_as_a_whole():
    use = use_table("classification", REFERENCE, ["vae"], SITES)
    assert [line["mean"] for line in use["tables"][0]["lines"]] == [None] * 5
    assert "missing" in headline(use)["text"][0]


def test_a_metric_of_one_class_has_no_table_of_its_own():
    rows = [row("synthetic", s, 0.5, "vae", **{"dice.b": 0.4, "hd95": 3.0}) for s in SITES]
    tables = use_table("segmentation", rows, ["vae"], SITES)["tables"]
    assert [(t["metric"], t["lower"], t["share"]) for t in tables] == [("dice", False, True), ("hd95", True, False)]


def test_an_interval_stands_beside_its_share_and_only_where_that_is_known():
    known = {"retained": 0.8, "gap_closed": None, "intervals": {"retained": [0.7, 0.9], "gap_closed": [0.1, 0.2]}}
    table = use_table("segmentation", REFERENCE + VAE, ["vae"], SITES, {"vae": {"segmentation": known}})["tables"][0]
    assert table["lines"][3]["intervals"] == {"retained": [0.7, 0.9]}
    assert ends([-0.1, 0.9]) == "−10 to 90\N{NO-BREAK SPACE}%"
    assert ends(None) == ""


def test_without_pooled_images_the_shares_are_of_federated_and_said_to_be():
    federated = [
        row("local", s, v) | {"name": "federated", "trained_on": "all"} for s, v in (("north", 0.8), ("east", 0.8))
    ]
    known = {
        "retained": 0.81,
        "gap_closed": 0.67,
        "gap_closed_poorest": 0.75,
        "poorest_site": "east",
        "against": "federated",
    }
    use = use_table(
        "segmentation", [*both("local", 0.6, 0.4), *federated, *GAN], ["gan"], SITES, {"gan": {"segmentation": known}}
    )
    assert use["against"] == headline(use)["against"] == "federated"
    text = " ".join(headline(use)["text"]).replace("\N{NO-BREAK SPACE}", " ")
    assert "81 % of the 0.80 reached with FedAvg over all sites' real images." in text
    assert "between what one site reaches alone and FedAvg over all sites' real images" in text
    assert use_table("segmentation", [], [], SITES)["against"] == "pooled", "where a summary does not say"


def test_lower_is_better_is_said_of_what_the_uses_say_it_of():
    assert Classification.lower | Segmentation.lower == LOWER_IS_BETTER


def test_where_all_are_alike_none_is_best():
    assert not any(
        line["best"] for line in lines(REFERENCE + VAE + [r | {"model": "gan"} for r in VAE], ["vae", "gan"]).values()
    )
