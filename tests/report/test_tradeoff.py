"""The plot draws what the facts say, leaves out what is missing and says so, and holds the gates' limits."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET

import pytest
from PIL import Image as Pillow

from fedsynth.report import tradeoff
from tests.facts_made import USES, facts_of, gate, verdict

BOTH = {"vae": facts_of("vae", 0.9, auc=0.53), "gan": facts_of("gan", 0.7, [gate("fid <= 1", 2, 1, False)], auc=0.64)}


def test_a_point_is_the_stronger_attack_and_the_mean_of_the_uses():
    facts = facts_of("m", 0.9, auc=0.53)
    facts["uses"]["segmentation"]["retained"] = 0.7
    facts["measures"]["membership_loss_auc"] |= {"value": 0.58, "low": 0.5, "high": 0.66}
    found = tradeoff.points({"m": facts}, list(USES))[0]
    assert (found.auc, found.auc_interval) == (0.58, (0.5, 0.66))
    assert found.retained == pytest.approx(0.8)
    assert found.retained_interval == pytest.approx((0.85, 0.95)), "the mean of the uses' ends"
    assert found.why == ""


def test_a_use_without_retained_leaves_the_mean_missing():
    facts = facts_of("m")
    facts["uses"]["segmentation"]["retained"] = None
    found = tradeoff.points({"m": facts}, list(USES))[0]
    assert found.retained is None
    assert not found.drawn
    assert tradeoff.missing([found]) == ["m: retained missing"]


def test_one_attack_alone_is_drawn_and_the_other_said_to_be_missing():
    facts = facts_of("m")
    del facts["measures"]["membership_loss_auc"]
    found = tradeoff.points({"m": facts}, list(USES))[0]
    assert found.drawn
    assert found.why == "membership by loss"


def test_a_model_without_facts_is_listed_and_not_drawn():
    found = tradeoff.points({"m": {}}, list(USES))
    assert not found[0].drawn
    assert "membership by distance" in tradeoff.missing(found)[0]
    assert tradeoff.svg({"m": {}}, list(USES)) == ""
    assert Pillow.open(io.BytesIO(tradeoff.png({"m": {}}, list(USES)))).size[0] > 0


def test_a_model_that_must_not_be_promoted_does_not_look_as_if_it_might():
    assert [p.passed for p in tradeoff.points(BOTH, list(USES))] == [True, False]
    assert "var(--good)" in tradeoff.svg({"vae": BOTH["vae"]}, list(USES))
    assert "var(--good)" not in tradeoff.svg({"gan": BOTH["gan"]}, list(USES))


def test_a_model_of_which_nothing_is_required_does_not_look_as_if_it_might_be_promoted():
    facts = facts_of("m") | {"verdict": {"passed": True, "gates": [gate("epsilon <= 8", 4, 8, True, "warn")]}}
    assert not tradeoff.points({"m": facts}, list(USES))[0].passed
    assert "var(--good)" not in tradeoff.svg({"m": facts}, list(USES))


def test_it_says_of_what_is_retained_where_that_is_not_the_pooled_reference():
    facts = facts_of("m", 0.9)
    assert "retained 0.90" in tradeoff.described(tradeoff.points({"m": facts}, list(USES)))
    assert " of " not in tradeoff.points({"m": facts}, list(USES))[0].of
    for of in facts["uses"].values():
        of["against"] = "federated"
    assert "retained 0.90 of federated" in tradeoff.svg({"m": facts}, list(USES))
    assert "retained of federated, mean of the uses" in tradeoff.svg({"m": facts}, list(USES))


def test_the_limits_are_those_of_the_gates_on_the_axes_and_of_no_other():
    gates = [
        gate("membership_distance_auc <= 0.57", 0.5, 0.57, True),
        gate("segmentation/retained >= 0.8", 0.9, 0.8, True),
        gate("fid <= 3 * floor", 1, 3, True),
        gate("membership_loss_tpr <= 0.05", 0.01, 0.05, True),
    ]
    assert tradeoff.limits({"m": facts_of("m") | {"verdict": verdict(*gates)}}) == {"auc": [0.57], "retained": [0.8]}


def test_the_plot_names_every_model_and_says_itself_in_words():
    svg = tradeoff.svg(BOTH, list(USES))
    texts = [e.text for e in ET.fromstring(svg.replace("xlink:href", "href")).iter() if e.text]
    assert {"vae", "gan", "gate: at least 85%", "gate: at most 0.6"} <= set(texts)
    assert any("vae: membership AUC 0.53, retained 0.90" in t for t in texts)
    assert 'role="img"' in svg
    assert "http" not in svg


def test_the_same_facts_give_the_same_bytes():
    assert tradeoff.svg(BOTH, list(USES)) == tradeoff.svg(BOTH, list(USES))
    assert tradeoff.png(BOTH, list(USES)) == tradeoff.png(BOTH, list(USES))
