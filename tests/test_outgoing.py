"""The one door out of a hospital: what is on the list leaves unchanged, all else is refused without a word of what it was."""

import copy
import json

import numpy as np
import pytest

from fedsynth import outgoing
from fedsynth.outgoing import LeakError, leave, leave_arrays
from fedsynth.verdict import Failure, Verdict
from tests.sets import tiny_params

VALIDATE = {
    "passed": False,
    "digest": "a" * 64,
    "images": 31,
    "failed": [{"expectation": "unique hashes", "count": "< 5"}],
    "warnings": [{"expectation": "similar spacing", "count": 12}],
    "counts": {"none": {"train": 20, "val": "< 5", "test": 11}},
}
TRAIN = {"losses": {"generator": 0.5, "discriminator": 1.25}, "steps": 9, "weight": 108.0}
ROW = {
    "use": "segmentation", "name": "augmented", "trained_on": "north", "model": "vae", "site": "north", "seed": 1,
    "metrics": {"dice": 0.71, "auroc": None}, "n": {"dice": 40, "auroc": 44},
}  # fmt: skip
REFERENCE = {"rows": [ROW, ROW | {"name": "local", "model": ""}], "seconds": 3.5}
SPREAD = {"use": "segmentation", "model": "vae", "site": "north", "metric": "dice", "names": ["local", "augmented"], "n": 40,
          "covariance": [[0.01, 0.002], [0.002, 0.03]]}  # fmt: skip
NUMBER = {"value": 0.3, "floor": None, "low": 0.2, "high": 0.4, "n": {"real": 40, "synthetic": 30}}
MOMENTS = {"n": 40, "mean": [0.1, 0.2], "covariance": [[1.0, 0.5], [0.5, 2.0]]}
SCORE = REFERENCE | {"spread": [SPREAD], "measures": {"fid": {"values": {"fid": NUMBER}, "moments": {"held_out": MOMENTS}}}}
ANSWERS = {"validate": VALIDATE, "train": TRAIN, "score": SCORE, "reference": REFERENCE}
KNOWN = {"none", "generator", "discriminator", "segmentation", "dice", "auroc", "north", "vae", "all", "fid", "real", "synthetic"}
CANARIES = {
    "a subject": "Subject-4711",
    "a file": "images/Mueller_Anna_1961.png",
    "free text": "patient moved, repeat the scan",
    "a pixel array": np.zeros((4, 4), np.float32),
    "pixels as a list": [0.1, 0.2, 0.3],
    "pixels as bytes": b"\x00\x01",
    "a table": {"Subject-4711": 0.5},
    "a number that is none": float("nan"),
}


def places(answer, path=()):
    """Paths of everything in nested dicts and lists, the containers too."""
    yield path
    for key, value in answer.items() if isinstance(answer, dict) else enumerate(answer) if isinstance(answer, list) else ():
        yield from places(value, (*path, key))


def put(answer, path, value):
    """The answer with `value` at `path`."""
    answer = copy.deepcopy(answer)
    at = answer
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return answer


def refuses(job, answer):
    with pytest.raises(LeakError) as error:
        leave(job, answer, KNOWN)
    text = str(error.value)
    assert not any(secret in text for secret in ("4711", "Mueller", "moved", "0.2", "\\x00"))
    assert error.value.__cause__ is None  # or a log that shows it would show the value
    return text


@pytest.mark.parametrize("job", ANSWERS)
def test_what_is_on_the_list_leaves_unchanged(job):
    assert leave(job, ANSWERS[job], KNOWN) == ANSWERS[job]
    json.dumps(leave(job, ANSWERS[job], KNOWN), allow_nan=False)


@pytest.mark.parametrize("canary", CANARIES)
@pytest.mark.parametrize("job", ANSWERS)
def test_a_canary_in_any_place_is_refused(job, canary):
    tried = [put(ANSWERS[job], path, CANARIES[canary]) for path in places(ANSWERS[job]) if path]
    assert len(tried) >= 5
    for answer in tried:
        refuses(job, answer)


@pytest.mark.parametrize("job", ANSWERS)
def test_a_canary_under_a_key_of_its_own_is_refused_at_any_depth(job):
    tables = [p for p in places(ANSWERS[job]) if isinstance(_at(ANSWERS[job], p), dict)]
    for path in tables:
        for key, value in (("subjects", ["Subject-4711"]), ("Subject-4711", 0.5), ("Subject-4711", {"train": 9}), ("file", "x.png")):
            refuses(job, put(ANSWERS[job], (*path, key), value))


def _at(answer, path):
    for key in path:
        answer = answer[key]
    return answer


def test_the_message_names_job_and_key():
    assert "validate" in refuses("validate", VALIDATE | {"subject": "Subject-4711"})
    assert "subject: is not on the list" in refuses("validate", VALIDATE | {"subject": "Subject-4711"})
    assert "rows.1.site: is not one of the names" in refuses("score", put(SCORE, ("rows", 1, "site"), "Subject-4711"))


def test_a_patients_name_cannot_be_named_as_a_key():
    text = refuses("train", TRAIN | {"losses": {"Subject-4711": 0.5}})
    assert "losses.(a name)" in text


def test_without_known_names_only_the_form_of_a_name_is_held():
    assert leave("train", TRAIN | {"losses": {"player-2": 0.5}})["losses"] == {"player-2": 0.5}
    for name in ("Anna Mueller", "images/a.png", "x" * 81, "", "naïve"):
        with pytest.raises(LeakError):
            leave("train", TRAIN | {"losses": {name: 0.5}})


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_count_below_the_smallest_cell_is_refused_wherever_it_is(n):
    numbers = [p for p in places(VALIDATE) if type(_at(VALIDATE, p)) is int]
    assert len(numbers) == 4
    for path in numbers:
        assert "below 5" in refuses("validate", put(VALIDATE, path, n))


def test_a_metric_of_few_images_is_withheld_with_its_count():
    answer = put(put(SCORE, ("rows", 0, "n", "dice"), 4), ("rows", 0, "metrics", "auroc"), 0.9)
    row = leave("score", answer, KNOWN)["rows"][0]
    assert row["metrics"] == {"dice": None, "auroc": 0.9}
    assert row["n"] == {"dice": "< 5", "auroc": 44}
    assert leave("score", answer, KNOWN, min_cell=4)["rows"][0]["metrics"]["dice"] == 0.71


def test_a_metric_without_its_count_is_refused():
    assert "without the number of images" in refuses("score", put(SCORE, ("rows", 0, "n"), {"dice": 40}))


@pytest.mark.parametrize("job", ["", "Subject-4711", "export"])
def test_an_unknown_job_lets_nothing_out(job):
    refuses(job, {})


def test_what_a_verdict_lets_out_may_leave_and_shows_no_small_count():
    counts = {"none": {"train": 12, "val": 1, "test": 2}, "infiltrating": {"train": 3, "val": 4, "test": 9}}
    secret = Failure("known labels", "critical", 3, ["n-1"] * 3, ["Mueller.png"] * 3, ["Subject-4711"] * 3, "hint")
    verdict = Verdict("north", False, "b" * 64, 34, [secret], [Failure("similar spacing", "warning", 1)], counts)
    out = leave("validate", verdict.outgoing(5), {"none", "infiltrating"})
    assert out["counts"] == {"none": {"train": 12, "val": "< 5", "test": "< 5"}, "infiltrating": {"train": "< 5", "val": "< 5", "test": 9}}
    assert out["failed"] == [{"expectation": "known labels", "count": "< 5"}]
    assert out["warnings"] == [{"expectation": "similar spacing", "count": "< 5"}]
    assert out["images"] == 21  # of the cells shown: from 34, the sum of those withheld would follow
    assert not any(secret in json.dumps(out) for secret in ("n-1", "Mueller", "4711", "hint", "north"))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
def test_two_verdicts_that_differ_in_a_small_count_alone_look_the_same_outside(n):
    def out(small):
        counts = {"none": {"train": 30, "val": small, "test": 10}}
        failed = [Failure("unique hashes", "critical", small)]
        return Verdict("north", False, "c" * 64, 40 + small, failed, [], counts).outgoing(5)

    assert out(n) == out(0)
    assert out(5) != out(0)


def test_the_vocabulary_of_a_job_is_what_params_name():
    params = tiny_params()
    assert outgoing.vocabulary("validate", params) == {"none", "infiltrating", "extra_axial"}
    known = outgoing.vocabulary("score", params, "north")
    assert known >= {"all", "classification", "balanced_accuracy", "auroc", "sensitivity.infiltrating", "north", "real"}
    assert not known & {"segmentation", "dice", "fid"}
    fid = {"fid": {"class_path": "fedsynth.measures.fid.FID"}}
    assert outgoing.vocabulary("score", tiny_params(score={"measures": fid}), "north") - known == {"fid", "pooled_fid"}


def test_moments_of_fewer_images_than_features_stay():
    few = put(SCORE, ("measures", "fid", "moments", "held_out"), {"n": 6, "mean": [0.0] * 7, "covariance": [[0.0] * 7] * 7})
    assert "fewer images than features" in refuses("score", few)
    other = put(SCORE, ("measures", "fid", "moments", "held_out", "covariance"), [[1.0, 0.5]])
    assert "another size than its mean" in refuses("score", other)


def test_moments_of_a_handful_of_images_stay_however_few_features_there_are():
    assert "fewer images" in refuses("score", put(SCORE, ("measures", "fid", "moments", "held_out", "n"), 4))


def test_a_measure_of_few_images_does_not_leave_and_how_rows_vary_with_them_neither():
    answer = put(put(SCORE, ("measures", "fid", "values", "fid", "n", "real"), 4), ("spread", 0, "n"), 3)
    out = leave("score", answer, KNOWN)
    number = out["measures"]["fid"]["values"]["fid"]
    assert number == {"value": None, "floor": None, "low": None, "high": None, "n": {"real": "< 5", "synthetic": 30}}
    assert (out["spread"][0]["n"], out["spread"][0]["covariance"]) == ("< 5", None)


def test_a_matrix_that_is_not_of_the_rows_does_not_leave():
    assert "another size than its rows" in refuses("score", put(SCORE, ("spread", 0, "covariance"), [[0.1] * 5] * 5))
    assert "at most 5" in refuses("score", put(SCORE, ("spread", 0, "names"), ["local"] * 6))


def test_arrays_leave_as_they_are():
    arrays = {"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float16)}
    out = leave_arrays(arrays, {"b": (4,), "a": (2, 3)})
    assert set(out) == {"a", "b"}
    assert all(np.array_equal(out[name], arrays[name]) for name in arrays)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Subject-4711": np.ones(3, np.float32)}, "1 arrays may not leave"),
        ({"a": np.ones((32, 32), np.float32)}, r"a may not .* shape is \(32, 32\), the centre sent \(2, 3\)"),
        ({"a": np.ones((2, 3), np.int64)}, "a may not .* floating"),
        ({"a": np.array([["Subject-4711"] * 3] * 2)}, "a may not .* floating"),
        ({"a": np.full((2, 3), None)}, "a may not .* floating"),
        ({"a": [[1.0] * 3] * 2}, "a may not .* floating"),
        ({"a": np.array([[1, 2, np.nan]] * 2, np.float32)}, "a may not .* NaN"),
        ({"a": np.array([[1, 2, np.inf]] * 2, np.float32)}, "a may not .* infinite"),
    ],
)
def test_other_arrays_are_refused(changes, message):
    with pytest.raises(LeakError, match=message) as error:
        leave_arrays({"a": np.ones((2, 3), np.float32)} | changes, {"a": (2, 3)})
    assert "4711" not in str(error.value)


def test_a_parameter_that_is_missing_is_named():
    with pytest.raises(LeakError, match=r"lacks 1 parameters .* first: b"):
        leave_arrays({"a": np.ones(2)}, {"a": (2,), "b": (2,)})
