"""The verdict in words never says more than the gates do, and what is missing is never held."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from fedsynth.report import comparison, tradeoff
from fedsynth.report.by_site import by_class, by_site
from fedsynth.report.measure_tables import cell, measures
from fedsynth.report.text import markdown
from fedsynth.report.use_tables import summary_of, use_table
from fedsynth.worth.judgement import card, gate_table, held_said, passed, readers, state
from fedsynth.worth.wording import epsilon_said, measured
from tests.facts_made import SITES, USES, bad_gates, facts_of, gate, verdict
from tests.report.test_curves import history

FACTS = {"vae": facts_of("vae"), "gan": facts_of("gan", 0.7, bad_gates(), fid=None, copies=3), "diffusion": {}}
ONLY_A_WARNING = {"verdict": {"passed": True, "gates": [gate("epsilon <= 8", 4, 8, True, "warn")]}}


def row(metric: str, site: str, value: float | None, n: int | str, model: str = "vae") -> dict:
    head = {"dice": 0.5, metric: value}
    return {
        "use": "segmentation",
        "name": "synthetic",
        "trained_on": model,
        "model": model,
        "site": site,
        "seed": 1,
        "metrics": head,
        "n": {"dice": 40, metric: n},
    }


def test_the_card_counts_the_required_gates_that_do_not_hold_and_says_why():
    assert card("vae", FACTS["vae"])["said"] == "may be promoted: all of 3 required gates hold"
    found = card("gan", FACTS["gan"])
    assert found["said"] == "must not be promoted: 3 of 3 required gates do not hold"
    assert "copies_pixel <= 0: 3 is above 0" in found["reasons"]
    assert len(found["warnings"]) == 1, "which is not counted"


@pytest.mark.parametrize("of", [{}, {"verdict": None}, {"verdict": verdict()},
                                {"verdict": {"passed": True, "gates": []}},
                                ONLY_A_WARNING])  # fmt: skip
def test_a_model_that_nothing_was_asked_of_must_not_be_promoted(of):
    found = card("m", of)
    assert not found["passed"]
    assert found["said"].startswith("must not be promoted")
    assert not passed(of)
    assert not comparison.verdicts({"m": of})["m"]["passed"]
    assert not tradeoff.points({"m": of}, list(USES))[0].passed


@pytest.mark.parametrize(("value", "limit"), [(None, 1.0), (1.0, None), (float("nan"), 1.0)])
def test_a_gate_whose_number_is_missing_is_not_held_whatever_it_claims(value, limit):
    broken = gate("fid <= 1", value, limit, held=True)
    assert state(broken) == "missing"
    assert not card("m", {"verdict": {"passed": True, "gates": [broken]}})["passed"]


def test_the_table_of_gates_has_a_cell_for_every_model_also_for_one_that_was_not_judged():
    lines = gate_table(FACTS)
    assert [line["cells"]["diffusion"]["state"] for line in lines] == ["unjudged"] * 4
    assert [line["cells"]["gan"]["state"] for line in lines] == ["failed", "failed", "missing", "missing"]


def test_every_reader_is_answered_for_every_model():
    tables = [{"worst": {"vae": {"label": "Dice of extra_axial", "site": "south", "value": 0.41, "rest": ""}}}]
    clinician, protection, engineer = (r["answers"] for r in readers(FACTS, tables, {"vae": "FLARE job j"}))
    assert "worst at south" in clinician["vae"]
    assert "Dice of extra_axial at south, 0.41" in clinician["vae"]
    assert "calibration error missing" in clinician["diffusion"]
    assert "Copies 3 by pixels and " in protection["gan"]
    assert protection["diffusion"].count("missing") == 4
    assert "FLARE job j" in engineer["vae"]


def test_data_protection_is_told_of_every_search_for_copies_that_was_made():
    found = {f"copies_{space}": {"value": n} for n, space in enumerate(("pixel", "feature", "ssim", "patch"), 1)}
    answers = readers({"vae": {"measures": found}}, [], {})[1]["answers"]
    assert "Copies 1 by pixels, 2 by features, 3 by structure and 4 by patches;" in answers["vae"]
    assert (
        "Copies 1 by pixels and missing by features;"
        in readers({"vae": {"measures": {"copies_pixel": {"value": 1}}}}, [], {})[1]["answers"]["vae"]
    )


def test_a_measure_that_is_missing_says_so_with_its_reason_and_never_0():
    lines = {line["name"]: line for line in measures(FACTS)["lines"]}
    assert lines["fid"]["cells"]["gan"]["value"] == "missing"
    assert "fewer images than features" in lines["fid"]["cells"]["gan"]["why"]
    assert lines["kid"]["cells"]["diffusion"]["value"] == "missing"
    assert "density" in measures(FACTS)["missing"]
    assert not measures({"m": {}})["audited"]
    assert cell({"value": 1.0, "low": None, "high": 2.0})["interval"] == ""


def test_numbers_have_three_digits_and_no_exponent():
    assert [measured(v) for v in (0, 3.0, 0.5312, 0.00213, 12.34, 148.2, -0.0123, 1e-6, None)] == [
        "0", "3", "0.531", "0.0021", "12.3", "148", "−0.012", "under 0.0001", "missing"]  # fmt: skip


def test_epsilon_is_none_without_differential_privacy_and_missing_where_nobody_knows():
    assert epsilon_said(FACTS["vae"])[0] == "none"
    assert epsilon_said({})[0] == "missing"
    assert epsilon_said({"epsilon": {"epsilon": None}})[0] == "missing"
    assert "one image more or less" in epsilon_said({"epsilon": {"epsilon": 6.4, "delta": 1e-5, "unit": "image"}})[1]


def test_a_cell_of_few_images_is_withheld_and_the_worst_of_the_others_is_named():
    rows = [row("dice.b", "north", 0.6, 20), row("dice.b", "east", 0.3, 3), row("dice.b", "south", 0.1, "< 5")]
    table = by_class("segmentation", rows, ["vae"], list(SITES), 5)
    cells = {site: table["lines"][0]["cells"][("vae", site)] for site in SITES}
    assert [cells[s]["state"] for s in SITES] == ["known", "withheld", "withheld"]
    assert cells["east"]["value"] is None
    assert table["worst"]["vae"] == {"label": "Dice of b", "site": "north", "value": 0.6, "rest": ", of those known"}


def test_the_worst_site_is_where_least_is_retained():
    lines = by_site("segmentation", summary_of(FACTS), list(FACTS), list(SITES))["lines"]
    assert [line["site"] for line in lines if line["cells"]["vae"]["worst"]] == ["south"]
    assert not any(line["cells"]["diffusion"]["worst"] for line in lines)


def test_a_gate_of_which_there_is_too_little_to_tell_is_said_to_be_so_everywhere():
    few = {"gate": "fid <= 3", "kind": "require", "held": False, "few": True, "by": "bound", "value": 2.0, "low": 1.0,
           "high": 3.5, "limit": 3.0, "reason": "2 (1 to 3.5) is at most 3, but its upper end is not"}  # fmt: skip
    of = {"verdict": {"passed": False, "said": "", "gates": [few]}}
    assert card("m", of)["said"] == (
        "must not be promoted: 1 of 1 required gate does not hold, 1 of them for too few images to tell"
    )
    (line,) = gate_table({"m": of})
    assert line["cells"]["m"]["said"] == "? too few to tell, so it does not hold"
    assert line["cells"]["m"]["value"] == "2 (1 to 3.50)"
    assert held_said(few) == "too few to tell"
    assert comparison.metrics({}, {"m": of})["m"]["gates"] == {"passed": False, "failed": 0, "few": 1, "missing": 0}


def test_metrics_are_numbers_alone_and_what_is_missing_has_no_key():
    found = comparison.metrics(summary_of(FACTS), FACTS)
    assert found["gan"]["gates"] == {"passed": False, "failed": 2, "few": 0, "missing": 1}
    assert found["vae"]["gates"] == {"passed": True, "failed": 0, "few": 0, "missing": 0}
    nothing_required = comparison.metrics({}, {"m": ONLY_A_WARNING})
    assert nothing_required["m"]["gates"] == {"passed": False, "failed": 0, "few": 0, "missing": 0}
    assert "fid" not in found["gan"]["measures"]
    assert found["vae"]["segmentation"]["retained"] == 0.93
    assert found["diffusion"] == {}
    leaves = [v for of in found.values() for part in of.values() for v in part.values()]
    assert all(isinstance(v, int | float) for v in leaves)
    json.dumps(found, allow_nan=False)


def test_plots_are_long_tables_with_the_mean_loss_of_the_sites():
    made = comparison.plots([row("dice.b", "north", 0.6, 20)], FACTS, {"vae": history(2)}, list(USES))
    rounds = made["rounds"].query("player == 'generator'")
    assert list(rounds["round"]) == [1, 2]
    assert list(rounds["loss"]) == pytest.approx([1.05, 0.55])
    assert list(made["worth"]["value"]) == [0.5], "the headline metric alone"
    assert made["tradeoff"].set_index("model").loc["diffusion"].isna().all()
    assert isinstance(made["tradeoff"], pd.DataFrame)


def test_the_text_says_what_the_page_says_and_a_bar_in_a_name_breaks_no_table():
    uses = [use_table("segmentation", [row("dice", "no|rth", 0.6, 20)], list(FACTS), ["no|rth"])]
    text = markdown(uses, FACTS, ["no|rth"])
    assert "**gan must not be promoted: 3 of 3 required gates do not hold**" in text
    assert "diffusion must not be promoted: it has not been judged" in text
    assert "no\\|rth" in text
    assert "| copies, by pixels | 0 (0 to 0; floor 0) | 3 (" in text
