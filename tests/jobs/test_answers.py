"""What a site answers is held against what it was asked: a careless or hostile site is left out, by name, and ends
nothing.
"""

from __future__ import annotations

import io
import json
import math
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsynth.errors import UserError
from fedsynth.hospital import outgoing
from fedsynth.measures.membership import Membership
from fedsynth.settings import Settings
from fedsynth.validation.verdict import Failure, Verdict
from fedsynth.worth import worth
from nvflare_jobs.centre import build_question, jobs, rows
from nvflare_jobs.centre.answers import Refused, held, look, verdict
from nvflare_jobs.centre.asked import Asked
from nvflare_jobs.server.ask import Ask, plain
from nvflare_jobs.validate import job as validate
from tests.nested import at, places, put
from tests.sets import tiny_params

SITES = ("north", "east", "south")
PARAMS = tiny_params(
    consortium={"quorum": 2, "failed_site": "leave_out"},
    sample={"images": 64},
    score={
        "uses": {
            "c": {"class_path": "fedsynth.uses.classification.Classification"},
            "s": {"class_path": "fedsynth.uses.segmentation.Segmentation"},
        },
        "seeds": [1, 2],
        "measures": {"fid": {"class_path": "fedsynth.measures.fid.FID"},
                     "membership": {"class_path": "fedsynth.measures.membership.Membership"}},
    },
)  # fmt: skip
LABELS = PARAMS.image.labels
COUNTS = {"none": (30, 8, 40), "infiltrating": (25, 7, 31), "extra_axial": (9, 6, 12)}
CELLS = {label: dict(zip(("train", "val", "test"), of, strict=True)) for label, of in COUNTS.items()}
SMALL = CELLS | {"extra_axial": {"train": 9, "val": 6, "test": "< 5"}}
KINDS = {"reference": {"local": None, "federated": "all"}, "score": {"synthetic": "vae", "augmented": None}}
NAMES = ["local", "synthetic", "federated", "augmented"]
TEST = {"c": 83, "s": 43}


def asked(job: str, cells: Any = CELLS, sent: tuple[str, ...] = ("federated",)) -> Asked:
    name = "vae" if job == "score" else ""
    return Asked(job, PARAMS, name, frozenset(sent), dict.fromkeys(SITES, cells))  # type: ignore[arg-type]


def row(job: str, site: str, use: str, kind: str, on: str | None, seed: int, value: float = 0.53) -> dict[str, Any]:
    first = {"c": "balanced_accuracy", "s": "dice"}[use]
    metrics = {first: value} | ({"auroc": 0.9} if use == "c" else {"hd95": 3.21})
    return {"use": use, "name": kind, "trained_on": on or site, "model": "vae" if job == "score" else "",
            "site": site, "seed": seed, "metrics": metrics, "n": dict.fromkeys(metrics, TEST[use])}  # fmt: skip


def answer(job: str, site: str, cells: Any = CELLS) -> dict[str, Any]:
    """What an honest site sends: it has come through the site's own door."""
    if job == "look":
        return outgoing.leave("look", {"digest": "a" * 64})
    if job == "validate":
        counts = {label: dict(zip(("train", "val", "test"), of, strict=True)) for label, of in COUNTS.items()}
        of = Verdict(site, True, "b" * 64, 168, [], [Failure("similar spacing", "warning", 12)], counts)
        return outgoing.leave("validate", of.outgoing(5), outgoing.vocabulary("validate", PARAMS))
    found: dict[str, Any] = {
        "rows": [
            row(job, site, use, kind, on, seed) for use in "cs" for kind, on in KINDS[job].items() for seed in (1, 2)
        ],
        "seconds": 3.5,
    }
    if job == "score":
        found |= {"spread": [spread(site, use) for use in "cs"], "measures": measured()}
    return outgoing.leave(job, found, cells=cells, known=outgoing.vocabulary(job, PARAMS, site, "vae"))


def spread(site: str, use: str) -> dict[str, Any]:
    first = {"c": "balanced_accuracy", "s": "dice"}[use]
    covariance = (0.001 * np.eye(4) + 0.002).tolist()
    return {"use": use, "model": "vae", "site": site, "metric": first, "names": NAMES, "covariance": covariance,
            "n": TEST[use]}  # fmt: skip


def measured() -> dict[str, Any]:
    fid = {
        "value": 12.345678,
        "floor": 3.0,
        "low": 11.0,
        "high": 13.0,
        "n": {"real": 104, "train": 64, "synthetic": 64},
    }
    moments = {"mean": [0.1, 0.2], "covariance": [[1.0, 0.5], [0.5, 2.0]]}
    attack = {"value": 0.51, "floor": 0.5, "low": 0.4, "high": 0.6,
              "n": {"real": 168, "members": 64, "non_members": 104, "synthetic": 64}}  # fmt: skip
    pooled = fid | {"value": None, "floor": None, "low": None, "high": None}
    return {
        "fid": {"values": {"fid": fid, "pooled_fid": pooled},
                "moments": {"held_out": moments | {"n": 104}, "train": moments | {"n": 64}}},
        "membership": {
            "values": dict.fromkeys(Membership().about, attack),
            "moments": {},
        },
    }  # fmt: skip


def hold(job: str, site: str, told: Any, cells: Any = CELLS) -> dict[str, Any]:
    if job == "look":
        return look(site, told)
    return verdict(PARAMS, site, told) if job == "validate" else asked(job, cells).hold(site, told)


JOBS = ("look", "validate", "reference", "score")


@pytest.mark.parametrize("cells", [CELLS, SMALL], ids=["large cells", "a small cell"])
@pytest.mark.parametrize("job", JOBS)
def test_an_honest_answer_arrives_unchanged(job, cells):
    told = json.loads(json.dumps(answer(job, "north", cells)))
    assert hold(job, "north", told, cells) == told


def test_the_largest_distance_arrives_in_the_digits_that_few_images_support():
    """The diagonal of 16 x 16 pixels is 22.63, which leaves as 23 where 20 images stand behind it."""
    few = put(answer("reference", "north"), ("rows", 4, "n", "hd95"), 20)
    told = put(few, ("rows", 4, "metrics", "hd95"), outgoing.digits.of_use(math.hypot(16, 16), 20))
    assert told["rows"][4]["metrics"]["hd95"] == 23
    assert hold("reference", "north", told) == told
    with pytest.raises(Refused, match="out of range"):
        hold("reference", "north", put(few, ("rows", 4, "metrics", "hd95"), 24))


HOSTILE = st.sampled_from(
    [float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 10**400, b"\x00", object(), {1, 2}, "x" * 10**6,
     "Subject-4711", "pooled", "east", "\ud800", "\x1b[31m", {"a": {"b": {"c": 1}}}, [[[[1]]]], [0.5] * 10**5,
     {str(i): i for i in range(1000)}, lambda: 0, 1 + 2j, np.float64("nan"), np.zeros(3), ()]
)  # fmt: skip


@st.composite
def hostile(draw: Any, job: str) -> Any:
    """An honest answer of north, spoilt in one place: a value of another kind, a key more, an entry twice, a count that
    cannot be, a bool for a number.
    """
    told = answer(job, "north")
    path = draw(st.sampled_from(places(told)))
    value, how = at(told, path), draw(st.sampled_from(["value", "more", "twice", "count", "bool", "sign"]))
    if how == "more" and isinstance(value, dict):
        return put(told, path, value | {draw(st.text(min_size=1)): draw(HOSTILE)})
    if how == "twice" and isinstance(value, list) and value and path[-1:] != ("mean",):
        return put(told, path, [*value, value[0]])
    if how == "count" and type(value) is int and path[-1] != "seed":
        return put(told, path, draw(st.sampled_from([-1, 1, 4, 10**30, *([value + 10**6] * (path[-1] != "count"))])))
    if how == "bool" and type(value) in (int, float):
        return put(told, path, draw(st.booleans()))
    if how == "sign" and type(value) is float and path[-1] in ("seconds", "balanced_accuracy", "dice", "auroc", "hd95"):
        return put(told, path, -value - 1)
    return put(told, path, draw(HOSTILE.filter(lambda v: not (isinstance(v, str) and v == value))))


@pytest.mark.parametrize("job", JOBS)
@settings(max_examples=150)
@given(data=st.data())
def test_a_hostile_answer_leaves_its_site_out_with_its_name_and_a_reason_that_quotes_nothing(job, data):
    told = data.draw(hostile(job))
    found = {"north": {"answer": told}, "east": {"answer": answer(job, "east")}, "south": {"failed": "not connected"}}
    printed = io.StringIO()
    with redirect_stdout(printed):
        out = held(job, found, lambda site, of: hold(job, site, of), quorum=1)
    assert out["north"].keys() == {"failed"}
    assert out["east"] == {"answer": answer(job, "east")}
    assert out["south"] == found["south"]
    reason = out["north"]["failed"]
    assert f"{job}: north is left out: {reason}" in printed.getvalue()
    assert len(reason) < 2000
    assert not any(secret in reason for secret in ("4711", "xxxx", "\x1b", "\ud800"))


@settings(max_examples=150)
@given(told=st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
       lambda of: st.lists(of) | st.dictionaries(st.text() | st.integers(), of) | st.tuples(of, of)))  # fmt: skip
def test_whatever_a_site_sends_the_server_can_write_it_down_or_says_that_it_is_no_answer(told):
    ask = object.__new__(Ask)
    ask.answers = {}
    for meta in ({"answer": told}, {"failed": told}, {"other": told}):
        ask._take(SimpleNamespace(meta=meta | {"client_name": "north"}))
        assert ask.answers["north"].keys() in ({"answer"}, {"failed"})
        assert json.loads(json.dumps(ask.answers, allow_nan=False)) == ask.answers


def test_an_answer_that_is_too_deep_or_too_large_is_none(monkeypatch):
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    for told in (deep, {"a": {"b": [[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]}}, float("nan"), object()):
        with pytest.raises((ValueError, TypeError, RecursionError)):
            plain(told)
    monkeypatch.setattr("nvflare_jobs.server.ask.LARGEST", 100)
    with pytest.raises(ValueError, match="too large"):
        plain([1] * 1000)
    assert plain(answer("look", "north")) == answer("look", "north")


TRAIN = ("measures", "fid", "moments", "train")


def change(told: Any, *path: Any, to: Any) -> Any:
    return put(told, path, to)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda a: change(a, "rows", 0, "site", to="east"), "rows.0.site: is not one of the names"),
        (lambda a: change(a, "rows", 0, "name", to="pooled"), "rows.0: was not asked of this site"),
        (lambda a: change(a, "rows", 0, "use", to="s"), "rows.0.metrics: lacks the headline"),
        (lambda a: change(a, "rows", 0, "n", "dice", to=43), "rows.0.n: are not the use's metrics"),
        (lambda a: change(a, "rows", 0, "seed", to=3), "rows.0: was not asked of this site"),
        (lambda a: change(a, "rows", 0, "trained_on", to="all"), "rows.0: was not asked of this site"),
        (lambda a: change(a, "rows", 1, to=a["rows"][0]), "rows.1: is there twice"),
        (lambda a: change(a, "rows", to=a["rows"][1:]), "rows: are 7 and not the 8 that were asked for"),
        (lambda a: change(a, "rows", 0, "metrics", "auroc", to=1.2), "rows.0.metrics: is out of range"),
        (lambda a: change(a, "rows", 4, "metrics", "hd95", to=-1.0), "rows.4.metrics: is out of range"),
        (lambda a: change(a, "rows", 4, "metrics", "hd95", to=23.0), "rows.4.metrics: is out of range"),
        (lambda a: change(a, "rows", 0, "metrics", to={"auroc": 0.9}), "rows.0.metrics: lacks the headline"),
        (lambda a: change(a, "rows", 0, "n", "auroc", to=84), "rows.0.n: is more than the site's test images"),
        (lambda a: change(a, "rows", 0, "metrics", "auroc", to=0.912345), "does not follow from the counts"),
    ],
)  # fmt: skip
def test_a_row_that_was_not_asked_of_the_site_or_cannot_be_is_refused_by_its_place(spoil, why):
    with pytest.raises(UserError, match=why.replace(".", r"\.")):
        asked("reference").hold("north", spoil(answer("reference", "north")))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda a: change(a, "spread", 0, "covariance", 0, 1, to=0.1), "spread.0.covariance: is no covariance"),
        (lambda a: change(a, "spread", 0, "covariance", to=(0.3 * np.eye(4)).tolist()), "is no covariance"),
        (lambda a: change(a, "spread", 0, "covariance", to=(-0.001 * np.eye(4)).tolist()), "not positive semi"),
        (lambda a: change(a, "spread", 0, "names", to=["local"] * 4), "spread.0: was not asked"),
        (lambda a: change(a, "spread", to=a["spread"][:1]), "spread: is not one of each use"),
        (lambda a: change(a, "measures", "fid", "values", "fid", "value", to=-2.0), "value: is out of range"),
        (lambda a: change(a, "measures", "fid", "values", "fid", "value", to=1e300), "value: is out of range"),
        (lambda a: change(a, "measures", "fid", "values", "fid", "low", to=14.0), "low: is above high"),
        (lambda a: change(a, "measures", "fid", "values", "fid", "n", "synthetic", to=10**10), "less than or equal"),
        (lambda a: change(a, *TRAIN, "n", to=65), "moments.n: is too large"),
        (lambda a: change(a, *TRAIN, "covariance", to=[[1.0, 2.0], [2.0, 1.0]]), "not positive semi"),
        (lambda a: change(a, *TRAIN, "covariance", to=[[1.0, 0.4], [0.5, 2.0]]), "is no covariance"),
        (lambda a: change(a, *TRAIN, "mean", 0, to=1e300), "moments.mean: is out of range"),
        (lambda a: change(a, "measures", "fid", "values", "pooled_fid", "some", to=True), "some: is of no count"),
        (lambda a: change(a, "measures", to={}), "measures: are not those that were asked for"),
        (lambda a: change(a, "measures", "fid", "values", to={}), "measures.values: are not the measure's"),
    ],
)  # fmt: skip
def test_a_spread_or_a_measure_that_cannot_be_is_refused(spoil, why):
    with pytest.raises(UserError, match=why.replace(".", r"\.")):
        asked("score").hold("north", spoil(answer("score", "north")))


def test_where_a_cell_is_small_a_site_cannot_send_more_than_its_door_would_have_let_out():
    for path, value in ((("metrics", "auroc"), 0.9), (("n", "auroc"), 83), (("metrics", "balanced_accuracy"), 0.531)):
        with pytest.raises(UserError, match="does not follow from the counts"):
            asked("reference", SMALL).hold("north", put(answer("reference", "north", SMALL), ("rows", 0, *path), value))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda a: change(a, "images", to=169), "images: is not the sum of the counts"),
        (lambda a: change(a, "counts", to={}), "counts: are not of each class and split"),
        (lambda a: change(a, "counts", "none", to={"train": 30}), "counts: are not of each class and split"),
        (lambda a: change(a, "counts", "none", "val", to="< 9999"), "counts: are withheld below another number"),
        (lambda a: change(a, "counts", "none", "val", to="< 2"), "counts: are withheld below another number"),
        (lambda a: change(a, "passed", to=False), "passed: contradicts"),
        (lambda a: change(a, "failed", to=[{"expectation": "unique hashes", "count": 9}]), "passed: contradicts"),
        (lambda a: change(a, "digest", to=""), "digest: is missing"),
    ],
)  # fmt: skip
def test_a_verdict_that_contradicts_itself_is_refused(spoil, why):
    with pytest.raises(UserError, match=why):
        verdict(PARAMS, "north", spoil(answer("validate", "north")))


def test_a_verdict_that_is_refused_counts_as_none(tmp_path, monkeypatch, capsys):
    said = {site: {"answer": answer("validate", site)} for site in SITES}
    said["east"]["answer"]["images"] = "169"
    monkeypatch.setattr(build_question, "ask", lambda *_, **__: tmp_path)
    monkeypatch.setattr(jobs, "ask", lambda *_: said)
    monkeypatch.setattr(validate.program, "expected", lambda *_: list(SITES))
    validate.stage(PARAMS, place(tmp_path))
    found = json.loads((tmp_path / "reports" / "validation.json").read_text())
    assert found["used"] == ["north", "south"]
    assert "its answer was refused" in found["sites"]["east"]["no_answer"]
    assert (
        "east: no answer: its answer was refused: validate: no such answer leaves a site: images"
        in capsys.readouterr().out
    )


def place(root: Path) -> Settings:
    return Settings("simulator", root, root / "data", root / "state", 60, False)


def reported(root: Path, monkeypatch, said: dict[str, Any], combine: Any = lambda _: {}) -> dict[str, Any]:
    """reports/reference.json of these answers. Pooled networks were sent: it is a simulation."""
    sites = {site: {"digest": "a", "counts": CELLS} for site in SITES}
    (root / "reports").mkdir(parents=True)
    (root / "reports" / "validation.json").write_text(json.dumps({"used": list(SITES), "sites": sites}))
    monkeypatch.setattr(build_question, "ask", lambda *_, **__: root)
    monkeypatch.setattr(jobs, "ask", lambda *_: said)
    sent = {f"net/{kind}/c/1/x": None for kind in ("federated", "pooled")}
    rows.rows(PARAMS, place(root), "reference", "", sent, {}, 0.0, combine)
    return json.loads((root / "reports" / "reference.json").read_text())


def test_an_expectation_is_told_once():
    told = answer("validate", "north")
    with pytest.raises(UserError, match="warnings: has an expectation twice"):
        verdict(PARAMS, "north", told | {"warnings": 2 * told["warnings"]})


def with_pooled(site: str, value: float = 0.9) -> dict[str, Any]:
    told = answer("reference", site)
    more = [row("reference", site, use, "pooled", "all", seed, value) for use in "cs" for seed in (1, 2)]
    return told | {"rows": told["rows"] + more}


def synthetic(value: float) -> list[dict[str, Any]]:
    return [row("score", site, "c", "synthetic", "vae", seed, value) for site in SITES for seed in (1, 2)]


@pytest.mark.parametrize("pooled_of", ["east", "north"])
def test_three_rows_of_one_site_no_longer_turn_what_is_retained_into_more(tmp_path, monkeypatch, capsys, pooled_of):
    """The attack: a site sends rows of the reference `pooled`, of others or of its own once more, near 0."""
    honest = {site: {"answer": with_pooled(site)} for site in SITES}
    false = [row("reference", site, "c", "pooled", "all", 1, 0.0) for site in SITES]
    told = honest["east"]["answer"]
    attack = honest | {"east": {"answer": told | {"rows": told["rows"] + [r | {"site": pooled_of} for r in false]}}}
    found = reported(tmp_path / "attack", monkeypatch, attack)
    without = reported(tmp_path / "without", monkeypatch, honest | {"east": {"failed": "not connected"}})
    assert {k: [r | {"left_out": ""} for r in of["rows"]] for k, of in {"a": found, "b": without}.items()}["a"] == [
        r | {"left_out": ""} for r in without["rows"]
    ]
    assert found["left_out"].keys() == {"east"}
    assert found["left_out"]["east"] in capsys.readouterr().out
    retained = worth.summary(found["rows"] + synthetic(0.48))["vae"]["c"]["retained"]
    assert retained is None  # of all sites: one did not answer, and a mean over the others is another quantity
    by_site = worth.summary(found["rows"] + synthetic(0.48))["vae"]["c"]["retained_by_site"]
    assert by_site["north"] == pytest.approx((0.48 - 1 / 3) / (0.9 - 1 / 3), abs=1e-3)


def test_outside_of_a_simulation_no_site_may_send_pooled(tmp_path):
    with pytest.raises(Refused, match="was not asked of this site"):
        asked("reference").hold("north", with_pooled("north"))
    assert asked("reference", sent=("federated", "pooled")).hold("north", with_pooled("north"))


def test_too_few_answers_that_can_be_used_end_the_stage_and_name_who_sent_what(tmp_path, monkeypatch):
    bad = {"answer": {"rows": "none"}}
    with pytest.raises(Refused, match=r"1 of 3 sites have answered what was asked, 2 are needed: north: .*east: "):
        reported(tmp_path, monkeypatch, {"north": bad, "east": bad, "south": {"answer": with_pooled("south")}})


def test_an_answer_with_which_the_stage_fails_leaves_its_site_out_and_the_others_are_combined(tmp_path, monkeypatch):
    def combine(found: Any) -> dict[str, Any]:
        there = [site for site, of in found.items() if "answer" in of]
        return {"combined": there, "east": 1 / ("east" not in there)}

    found = reported(tmp_path, monkeypatch, {site: {"answer": with_pooled(site)} for site in SITES}, combine)
    assert found["left_out"] == {"east": "its answer was refused: it cannot be used (ZeroDivisionError)"}
    assert found["combined"] == ["north", "south"]
    assert all(r["left_out"] for r in found["rows"] if r["site"] == "east")


def test_a_stage_that_fails_with_no_site_in_particular_fails(tmp_path, monkeypatch):
    def combine(found: Any) -> dict[str, Any]:
        return {"n": 1 / (len(found) - 3)} if len(found) == 3 else {"n": 1}

    with pytest.raises(ZeroDivisionError):
        reported(tmp_path, monkeypatch, {site: {"answer": with_pooled(site)} for site in SITES}, combine)
