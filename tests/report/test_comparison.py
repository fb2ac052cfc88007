"""What DVC compares runs by: dvc.yaml's plots are Vega-Lite that tells apart whatever its table does, its metrics are
numbers alone.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from fedsynth.report import comparison
from tests.facts_made import USES, facts_of
from tests.report.test_curves import history
from tests.worth.test_judgement import row

ROOT = Path(__file__).parents[2]
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
PLOTS = {Path(path).stem: how for entry in DVC["plots"] for path, how in entry.items()}


def drawn(name):
    """The table of a plot, and what DVC itself makes of dvc.yaml's entry and two revisions of it."""
    vega = pytest.importorskip("dvc_render.vega")
    frame = comparison.plots(
        [row("dice.b", "north", 0.6, 20)], {"vae": facts_of("vae")}, {"vae": history(2)}, list(USES)
    )[name]
    points = [{**line, "rev": rev} for rev in ("HEAD", "exp-1") for line in frame.astype(str).to_dict("records")]
    return frame, vega.VegaRenderer(
        points, f"{name}.csv", template_dir=str(ROOT / ".dvc" / "plots"), **PLOTS[name]
    ).get_filled_template()


@pytest.mark.parametrize("name", ["tradeoff", "rounds", "worth"])
def test_a_plot_uses_every_column_of_its_table_and_the_revision(name):
    frame, spec = drawn(name)
    text = json.dumps({key: part for key, part in spec.items() if key != "data"})
    used = set(re.findall(r'"field": "(\w+)"', text)) | set(re.findall(r"datum\.(\w+)", text))
    assert {*frame.columns, "rev"} <= used
    assert used <= {*frame.columns, "rev", "line"}, "a column that the table does not have draws nothing"
    assert "DVC_METRIC" not in text


@pytest.mark.parametrize("name", ["tradeoff", "rounds", "worth"])
def test_a_plot_is_vega_lite(name):
    pytest.importorskip("altair").Chart.from_dict(drawn(name)[1])  # raises where its schema knows a word not


@pytest.mark.parametrize("name", ["tradeoff", "rounds", "worth"])
def test_a_number_that_is_missing_is_not_drawn_as_0(name):
    (kept,) = [step["filter"] for step in drawn(name)[1]["transform"] if "filter" in step]
    number = {"tradeoff": "retained", "rounds": "loss", "worth": "value"}[name]
    assert f"isValid(toNumber(datum['{number}']))" in kept


def test_sentences_are_no_metric():
    report = DVC["stages"]["report"]
    assert report["metrics"] == ["reports/headline.json"]
    assert {"reports/verdict.json", "reports/worth.json"} <= set(report["outs"])


def test_the_columns_of_dvc_are_one_number_for_each_model():
    uses = {"classification": {"retained": 0.9, "synthetic": 0.8}, "segmentation": {"retained": 0.7}}
    numbers = {"vae": {**uses, "measures": {"fid": 1.0}, "gates": {"passed": True}}, "gan": {"classification": {}}}
    assert comparison.headline(numbers) == {"retained": {"vae": pytest.approx(0.8)}}
