"""What a promotion rests on: a version's tags say what its verdict was, and only a verdict that holds lets it pass."""

from __future__ import annotations

import pytest

from fedsynth.registry.promotion import Refused, check_gates, compare, gates, said, tags, warnings
from fedsynth.worth.gates import Known, evaluate

NUMBERS = {"c/retained": 0.9, "fid": 2.0, "epsilon": None}


def judged(require=(), warn=(), retained=0.9, reference="a" * 64, against="pooled", unknown=(), **uses):
    verdict = evaluate({"require": list(require), "warn": list(warn)}, Known(NUMBERS, {"fid": 1.0}))
    of = {use: {"retained": value, "gap_closed": None, "gap_closed_poorest": 0.5, "against": against}
          for use, value in (uses or {"c": retained}).items()}  # fmt: skip
    facts = {
        "verdict": verdict,
        "reference_sha256": reference,
        "uses": of,
        "measures": {"fid": {"value": 2.0}, "kid": {"value": None}},
        "worst": {"c": {"site": {"site": "south", "unknown": list(unknown)}, "class": None}},
        "epsilon": None,
    }
    return tags(facts)


def test_the_tags_hold_the_verdict_the_worth_and_the_measures():
    found = judged(["c/retained >= 0.85"], ["epsilon <= 8"])
    assert found == {
        "gates": "passed, with 1 warning",
        "gate.01": "require holds: c/retained >= 0.85: 0.9 is at least 0.85",
        "gate.02": "warn does not hold: epsilon <= 8: missing: not computed",
        "worth.c.against": "pooled",
        "worth.c.retained": "0.9000",
        "worth.c.gap_closed": "not computed",
        "worth.c.gap_closed_poorest": "0.5000",
        "measure.fid": "2",
        "measure.kid": "not computed",
        "worst_site.c": "south",
        "epsilon": "none",
        "reference.sha256": "a" * 64,
    }


@pytest.mark.parametrize("unit", ["image", "subject", "site"])
def test_the_tags_say_of_what_unit_and_at_which_delta_an_epsilon_is(unit):
    of = {"verdict": evaluate({}, Known({})), "reference_sha256": "", "uses": {}, "measures": {}, "worst": {}}
    found = tags(of | {"epsilon": {"epsilon": 3.5, "total": 9.25, "delta": 1e-5, "unit": unit, "relation": "replace"}})
    assert {k: v for k, v in found.items() if k.startswith("epsilon")} == {
        "epsilon": "3.5",
        "epsilon.delta": "1e-05",
        "epsilon.unit": unit,
        "epsilon.relation": "replace",
        "epsilon.total": "9.25",
    }


def test_gates_are_read_back_from_tags_as_they_were_written():
    found = gates(judged(["c/retained >= 0.95", "fid <= 3 * floor"], ["epsilon <= 8"]))
    assert [(g["kind"], g["held"], g["gate"]) for g in found] == [
        ("require", False, "c/retained >= 0.95"),
        ("require", True, "fid <= 3 * floor"),
        ("warn", False, "epsilon <= 8"),
    ]
    assert found[0]["reason"] == "0.9 is below 0.95"
    assert warnings(judged(["c/retained >= 0.95"], ["epsilon <= 8"])) == ["epsilon <= 8: missing: not computed"]


def test_a_gate_of_which_there_is_too_little_to_tell_says_so_in_its_tag_and_refuses():
    known = Known({"auc": 0.55}, intervals={"auc": (0.4, 0.7)}, n={"auc": 90})
    verdict = evaluate({"require": ["auc <= 0.6", "auc <= 0.6 by point"]}, known)
    of = {"verdict": verdict, "reference_sha256": "", "uses": {}, "measures": {}, "worst": {}, "epsilon": None}
    found = tags(of)
    assert found["gates"] == "failed: 1 of 2, 1 of them for too few to tell"
    assert found["gate.01"].startswith("require too few to tell: auc <= 0.6: 0.55 (0.4 to 0.7) is at most 0.6, but its")
    assert [(g["gate"], g["held"]) for g in gates(found)] == [("auc <= 0.6", False), ("auc <= 0.6 by point", True)]
    with pytest.raises(Refused, match="or, where these are too few to tell, test it on more images"):
        check_gates("v 1", found)


def test_more_gates_than_nine_stay_in_their_order():
    found = gates(judged([f"fid <= {i}" for i in range(12)]))
    assert [g["gate"] for g in found] == [f"fid <= {i}" for i in range(12)]


def test_a_version_whose_gates_hold_may_be_promoted_also_with_a_warning_and_where_none_are_set():
    check_gates("v 1", judged(["c/retained >= 0.85"], ["epsilon <= 8"]))
    check_gates("v 1", judged())
    assert said(judged()) == "none set"


def test_a_gate_that_does_not_hold_refuses_with_value_limit_and_what_to_do():
    with pytest.raises(Refused) as error:
        check_gates("v 1", judged(["c/retained >= 0.95", "fid <= 3 * floor", "epsilon <= 8"]))
    assert str(error.value).splitlines() == [
        "v 1 must not be promoted, gates failed: 2 of 3:",
        "  c/retained >= 0.95: 0.9 is below 0.95",
        "  epsilon <= 8: missing: not computed",
        (
            "train it better; or, if a limit is wrong, change `gates` in params.yaml and run the pipeline"
            " (`fedsynth run`), which judges it anew"
        ),
    ]


def test_a_version_without_a_verdict_is_refused():
    with pytest.raises(Refused, match=r"v 1 has no verdict, and none is not passed: .* run the pipeline"):
        check_gates("v 1", {"weights_sha256": "c3"})


@pytest.mark.parametrize(
    "half",
    [{"gates": "failed: 1 of 1"}, {"gates": "passed", "gate.01": "require does not hold: fid <= 1: 2 is above 1"}],
)
def test_tags_that_were_written_by_half_let_nothing_pass(half):
    with pytest.raises(Refused, match="v 1 must not be promoted"):
        check_gates("v 1", half)


@pytest.mark.parametrize(
    ("mine", "better", "word"), [(0.91, True, "better"), (0.9, False, "not better"), (0.89, False, "worse")]
)
def test_better_is_more_retained_on_the_same_references(mine, better, word):
    found = compare("version 2", judged(retained=mine), "version 1", judged(retained=0.9))
    expected = (
        f"version 2 retains {mine:.4f} (c {mine:.4f}) of pooled, version 1 0.9000 (c 0.9000) of pooled: {word} on the"
        " same references"
    )
    assert found == (better, expected)


def test_the_mean_over_the_uses_decides():
    better, text = compare("version 2", judged(c=0.8, s=0.9), "version 1", judged(c=0.9, s=0.7))
    assert better
    assert "retains 0.8500 (c 0.8000, s 0.9000) of pooled, version 1 0.8000 (c 0.9000, s 0.7000) of pooled" in text


def test_in_a_federation_versions_are_compared_by_what_they_retain_of_federated():
    better, text = compare(
        "version 2", judged(retained=0.95, against="federated"), "version 1", judged(against="federated")
    )
    assert better
    assert text.startswith(
        "version 2 retains 0.9500 (c 0.9500) of federated, version 1 0.9000 (c 0.9000) of federated: better"
    )
    better, text = compare(
        "version 2", judged(retained=0.95, against="federated", reference="b" * 64), "version 1", judged()
    )
    assert not better
    assert "of federated, version 1 0.9000 (c 0.9000) of pooled: they were judged on different references" in text


def test_the_worst_site_is_of_those_known():
    assert judged(unknown=["north"])["worst_site.c"] == "south of those known, north withheld or missing"


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (judged(retained=0.1, reference="b" * 64), "different references (aaaaaaaa and bbbbbbbb)"),
        (judged(retained=None), "cannot be compared"),
        (judged(c=0.1, s=0.1), "cannot be compared"),
        ({}, "version 1 has no verdict"),
    ],
)
def test_what_cannot_be_compared_is_not_better(other, why):
    better, text = compare("version 2", judged(retained=0.9), "version 1", other)
    assert not better
    assert why in text
