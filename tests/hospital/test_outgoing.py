"""The one door out of a hospital: what is on the list leaves unchanged, all else is refused without a word of what it
was.
"""

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from fedsynth.data.manifest import SPLITS
from fedsynth.hospital import outgoing
from fedsynth.hospital.outgoing import LeakError, leave, leave_arrays
from fedsynth.uses.classification import Classification
from fedsynth.uses.segmentation import Segmentation
from fedsynth.validation.verdict import Failure, Verdict
from tests.nested import at, places, put
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
EXCHANGE = {"losses": {"generator": 0.5, "discriminator": 1.25}, "steps": 9}
ROW = {
    "use": "segmentation", "name": "augmented", "trained_on": "north", "model": "vae", "site": "north", "seed": 1,
    "metrics": {"dice": 0.71, "auroc": None}, "n": {"dice": 40, "auroc": 44},
}  # fmt: skip
REFERENCE = {"rows": [ROW, ROW | {"name": "local", "model": ""}], "seconds": 3.5}
SPREAD = {
    "use": "segmentation",
    "model": "vae",
    "site": "north",
    "metric": "dice",
    "names": ["local", "augmented"],
    "n": 40,
    "covariance": [[0.01, 0.002], [0.002, 0.03]],
}
NUMBER = {"value": 0.3, "floor": None, "low": 0.2, "high": 0.4, "n": {"real": 40, "synthetic": 30}}
MOMENTS = {"n": 40, "mean": [0.1, 0.2], "covariance": [[1.0, 0.5], [0.5, 2.0]]}
SCORE = REFERENCE | {
    "spread": [SPREAD],
    "measures": {"fid": {"values": {"fid": NUMBER}, "moments": {"held_out": MOMENTS}}},
}
ANSWERS = {"validate": VALIDATE, "train": TRAIN, "exchange": EXCHANGE, "score": SCORE, "reference": REFERENCE}
KNOWN = {
    "none",
    "generator",
    "discriminator",
    "segmentation",
    "dice",
    "auroc",
    "north",
    "vae",
    "all",
    "fid",
    "real",
    "synthetic",
}
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
    assert len(tried) >= 4
    for answer in tried:
        refuses(job, answer)


@pytest.mark.parametrize("job", ANSWERS)
def test_a_canary_under_a_key_of_its_own_is_refused_at_any_depth(job):
    tables = [p for p in places(ANSWERS[job]) if isinstance(at(ANSWERS[job], p), dict)]
    for path in tables:
        for key, value in (
            ("subjects", ["Subject-4711"]),
            ("Subject-4711", 0.5),
            ("Subject-4711", {"train": 9}),
            ("file", "x.png"),
        ):
            refuses(job, put(ANSWERS[job], (*path, key), value))


SENT = (4, 2, 8, 8)  # the batch that the centre sent
FEEDBACK = np.linspace(-1, 1, 512, dtype=np.float32).reshape(SENT)


def test_a_gradient_at_the_images_of_the_centre_leaves_unchanged():
    assert outgoing.leave_feedback(FEEDBACK, SENT) is FEEDBACK


@pytest.mark.parametrize(
    "other",
    [
        np.zeros((5, 2, 8, 8), np.float32),  # an image more
        np.zeros((4, 3, 8, 8), np.float32),  # a channel more
        np.zeros((4, 2, 64), np.float32),
        FEEDBACK.astype(np.float64),  # twice the bits
        FEEDBACK.astype(np.float16),
        FEEDBACK.astype(np.int32),
        np.where(FEEDBACK > 0.9, np.nan, FEEDBACK),
        np.where(FEEDBACK > 0.9, np.inf, FEEDBACK),
        np.full(SENT, "Subject-4711"),
        np.full(SENT, "Subject-4711", dtype=object),
        FEEDBACK.tolist(),
        FEEDBACK.tobytes(),
        np.ma.masked_array(FEEDBACK),  # carries a second array
        {"images/Mueller_Anna_1961.png": FEEDBACK},
        None,
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'dtype', '')} {getattr(value, 'shape', '')}",
)
def test_what_is_no_such_gradient_stays_and_is_not_named(other):
    with pytest.raises(LeakError) as error:
        outgoing.leave_feedback(other, SENT)
    assert not any(secret in str(error.value) for secret in ("4711", "Mueller"))


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


ODD = ("basal cell carcinoma", "Ductal (in situ), G2", "Müller/β 50%")


def test_labels_of_any_text_leave_where_params_yaml_names_them_and_no_other_text_does():
    image = tiny_params().image.model_copy(update={"labels": list(ODD)})
    known = outgoing.vocabulary("validate", tiny_params().model_copy(update={"image": image}))
    cells = {"train": 12, "val": "< 5", "test": 7}
    out = leave("validate", VALIDATE | {"counts": dict.fromkeys(ODD, cells)}, known)
    assert list(out["counts"]) == list(ODD)
    for other in ("Ductal (in situ), G3", "Subject-4711", "none"):
        with pytest.raises(LeakError, match=r"counts\..*\[key\]: is not one of the names"):
            leave("validate", VALIDATE | {"counts": {other: cells}}, known)


def test_a_metric_of_a_label_of_any_text_leaves():
    image = tiny_params().image.model_copy(update={"labels": list(ODD)})
    known = outgoing.vocabulary("score", tiny_params().model_copy(update={"image": image}), "north", "vae")
    metrics = {"balanced_accuracy": 0.9} | {f"sensitivity.{label}": 0.8 for label in ODD}
    row = ROW | {"use": "classification", "metrics": metrics, "n": dict.fromkeys(metrics, 20)}
    assert leave("reference", {"rows": [row]}, known)["rows"][0]["metrics"] == metrics


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_count_below_the_smallest_cell_is_refused_wherever_it_is(n):
    numbers = [p for p in places(VALIDATE) if type(at(VALIDATE, p)) is int]
    assert len(numbers) == 4
    for path in numbers:
        assert "below 5" in refuses("validate", put(VALIDATE, path, n))


def test_a_metric_of_few_images_is_withheld_with_its_count():
    answer = put(put(SCORE, ("rows", 0, "n", "dice"), 4), ("rows", 0, "metrics", "auroc"), 0.9)
    row = leave("score", answer, KNOWN)["rows"][0]
    assert row["metrics"] == {"dice": None, "auroc": None}
    assert row["n"] == {"dice": "< 5", "auroc": "withheld"}
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
    assert out["counts"] == {
        "none": {"train": 12, "val": "< 5", "test": "< 5"},
        "infiltrating": {"train": "< 5", "val": "< 5", "test": 9},
    }
    # where a cell is withheld: of an expectation that no image meets, the count is the number of images
    assert out["failed"] == [{"expectation": "known labels", "count": "withheld"}]
    assert out["warnings"] == [{"expectation": "similar spacing", "count": "withheld"}]
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
    few = put(
        SCORE, ("measures", "fid", "moments", "held_out"), {"n": 6, "mean": [0.0] * 7, "covariance": [[0.0] * 7] * 7}
    )
    assert "fewer images than features" in refuses("score", few)
    other = put(SCORE, ("measures", "fid", "moments", "held_out", "covariance"), [[1.0, 0.5]])
    assert "another size than its mean" in refuses("score", other)


def test_as_how_many_independent_images_moments_vary_leaves_in_two_digits_and_where_no_cell_is_small():
    def told(independent, n=400, cells=None):
        of = MOMENTS | {"n": n, "independent": independent}
        out = leave("score", put(SCORE, ("measures", "fid", "moments", "held_out"), of), KNOWN, cells=cells)
        return out["measures"]["fid"]["moments"]["held_out"]["independent"]

    assert (told(47), told(137), told(399), told(4), told(None)) == (47, 130, 390, None, None)
    few = {"rare": {"train": 30, "val": "< 5", "test": 90}, "none": {"train": 30, "val": 20, "test": 90}}
    assert told(137, cells=few) is None
    more = put(SCORE, ("measures", "fid", "moments", "held_out", "independent"), 41)
    assert "more independent images than images" in refuses("score", more)


def test_moments_of_a_handful_of_images_stay_however_few_features_there_are():
    assert "fewer images" in refuses("score", put(SCORE, ("measures", "fid", "moments", "held_out", "n"), 4))


def test_a_measure_of_few_images_does_not_leave_and_how_rows_vary_with_them_neither():
    answer = put(put(SCORE, ("measures", "fid", "values", "fid", "n", "real"), 4), ("spread", 0, "n"), 3)
    out = leave("score", answer, KNOWN)
    number = out["measures"]["fid"]["values"]["fid"]
    assert number == {"value": None, "floor": None, "low": None, "high": None, "n": {"real": "< 5", "synthetic": 30}}
    assert (out["spread"][0]["n"], out["spread"][0]["covariance"]) == ("< 5", None)


def test_a_count_of_all_but_a_few_held_out_images_is_told_as_all_of_them():
    cells = {"some": {"train": 30, "val": 6, "test": 14}}
    for known, told in ((18, 20), (20, 20), (12, 12)):
        answer = put(SCORE, ("measures", "fid", "values", "fid", "n", "real"), known)
        assert leave("score", answer, cells=cells)["measures"]["fid"]["values"]["fid"]["n"]["real"] == told


def test_a_matrix_that_is_not_of_the_rows_does_not_leave():
    assert "another size than its rows" in refuses("score", put(SCORE, ("spread", 0, "covariance"), [[0.1] * 5] * 5))
    assert "at most 6" in refuses("score", put(SCORE, ("spread", 0, "names"), ["local"] * 7))


LABELS = ("none", "glioma", "rare")
SIZES = {"none": (30, 8, 40), "glioma": (25, 7, 31), "rare": (9, 6, 12)}  # train, val, test


def site(**sizes):
    """label -> split -> images"""
    return {label: dict(zip(SPLITS, of, strict=True)) for label, of in (SIZES | sizes).items()}


def rows_of(counts, right):
    """Rows of both uses, as they would leave without this door. `right`: of the test images of each class, how many are
    told as such.
    """
    test = [counts[label]["test"] for label in LABELS]
    y = np.repeat(np.arange(3), test)
    hit = np.concatenate([np.arange(n) < r for n, r in zip(test, right, strict=True)])
    tables = {
        "classification": (
            Classification(1, 3, (8, 8), LABELS),
            {"logits": np.eye(3)[np.where(hit, y, (y + 1) % 3)], "y": y},
        ),
        "segmentation": (
            Segmentation(1, 1, (8, 8), LABELS, ("none",)),
            {
                "dice": np.where(y > 0, np.where(hit, 0.8, 0.3), np.nan),
                "hd95": np.where(y > 0, 3.0, np.nan),
                "found": 1.0 - hit,
                "empty": y == 0,
                "known": np.ones(len(y), bool),
                "y": y,
            },
        ),
    }
    rows = []
    for name, (use, table) in tables.items():
        metrics, n = use.summarise(table)
        first = {m: None if np.isnan(metrics[m]) else float(metrics[m]) for m in (use.headline, *metrics)}
        rows.append(ROW | {"use": name, "metrics": first, "n": n})
    return rows


def measures_of(counts):
    """Counts as the measures give them: of all held-out images, and of those of a class with a mask."""

    def of(splits, labels=LABELS):
        return sum(counts[label][split] for label in labels for split in splits)

    held, train, both = of(("val", "test")), of(("train",)), of(("train", "val", "test"))
    ns = {
        "fid": {"real": held, "train": held, "synthetic": held},  # as many as are held out, in their shares
        "geometry": {"real": of(("val", "test"), LABELS[1:]), "train": train, "synthetic": 300},
        "ms_ssim": {"real": train, "synthetic": 300},
        "membership": {"real": both, "members": train, "non_members": held, "synthetic": 300},
    }
    moments = {"held_out": MOMENTS | {"n": held}, "train": MOMENTS | {"n": train}}
    return {
        name: {"values": {name: NUMBER | {"value": 12 / 47, "n": n}}, "moments": moments if name == "fid" else {}}
        for name, n in ns.items()
    }


def outside(counts, right=(30, 20, 2)):
    """All that the centre gets of a site: the verdict, a training's weight, rows, their spread and measures."""
    frame = pd.DataFrame(
        [(label, split) for label, of in counts.items() for split, n in of.items() for _ in range(n)],
        columns=["label", "split"],
    )
    cells = outgoing.shown(frame, list(LABELS), 5)
    score = {
        "rows": rows_of(counts, right),
        "spread": [SPREAD | {"n": sum(of["test"] for of in counts.values())}],
        "measures": measures_of(counts),
    }
    weight = float(sum(of["train"] for of in counts.values()))
    return {
        "validate": leave("validate", Verdict("north", True, "b" * 64, len(frame), [], [], counts).outgoing(5)),
        "train": leave("train", TRAIN | {"weight": weight}, cells=cells),
        "score": leave("score", score, cells=cells),
    }


def counts_in(answer):
    """Every count in it, and every weight, that is a number."""
    return {float(v) for p in places(answer) if p and ({"n", "counts"} & set(p) or p[-1] in ("images", "weight"))
            and isinstance(v := at(answer, p), int | float)}  # fmt: skip


SMALL = [
    {"rare": (9, 6, 3)},
    {"rare": (9, 2, 12)},
    {"rare": (3, 6, 12)},
    {"none": (30, 8, 3)},
    {"none": (30, 1, 40)},
    {"rare": (2, 1, 3)},
]


@pytest.mark.parametrize("small", SMALL)
def test_no_subtraction_of_what_leaves_finds_a_small_cell(small):
    counts = site(**small)
    known = outside(counts)
    shown = _shown(known)
    assert len(shown) < 9
    # every count that leaves is a sum of cells that are shown: nothing that a small one is part of
    sums = {sum(c) for r in range(len(shown) + 1) for c in itertools.combinations(shown, r)}
    assert {n for n in counts_in(known) if n != 300} <= sums


def _shown(known):
    return [n for of in known["validate"]["counts"].values() for n in of.values() if isinstance(n, int)]


@pytest.mark.parametrize("small", SMALL)
def test_sites_that_differ_in_a_small_cell_alone_send_the_same_counts(small):
    ((label, sizes),) = small.items()
    others = [tuple(n if n >= 5 else m for n in sizes) for m in (1, 2, 4)]
    assert (
        len({tuple(sorted(counts_in(outside(site(**{label: other}), (1, 1, 1))))) for other in [sizes, *others]}) == 1
    )


def test_the_subtraction_finds_the_small_cell_where_the_door_does_not_know_of_it():
    """The attack itself: from what would leave without the rule."""
    counts = site(rare=(9, 6, 3))
    total = next(r["n"]["balanced_accuracy"] for r in rows_of(counts, (30, 20, 2)) if r["use"] == "classification")
    assert total - sum(of["test"] for of in counts.values() if of["test"] >= 5) == 3
    measured = measures_of(counts)
    assert measured["fid"]["values"]["fid"]["n"]["real"] - sum(_shown(outside(counts))) + 30 + 25 + 9 == 3
    known = outside(counts)["score"]
    assert not any(isinstance(n, int) for row in known["rows"] for n in row["n"].values())
    assert (known["spread"][0]["n"], known["spread"][0]["covariance"]) == ("withheld", None)


def test_of_a_class_with_few_test_images_no_value_can_be_solved_for():
    known = outside(site(rare=(9, 6, 3)))["score"]["rows"]
    left = {row["use"]: {m: v for m, v in row["metrics"].items() if v is not None} for row in known}
    # K times the mean less the others needs the others: the headline is alone
    assert left == {"classification": {"balanced_accuracy": 0.69}, "segmentation": {"dice": 0.62}}
    assert {row["n"][f"{m}.rare"] for row in known for m in ("sensitivity", "dice") if f"{m}.rare" in row["n"]} == {
        "< 5"
    }


@pytest.mark.parametrize("right", [(30, 20, 2), (38, 25, 0), (21, 29, 3), (11, 7, 1)])
def test_the_headline_of_two_digits_does_not_say_how_the_small_class_fared(right):
    """Shares of right answers of the small class that fit, with the sizes of the large ones known. Of six digits each
    fits in one way.
    """
    shares = {r / n for n in range(1, 5) for r in range(n + 1)}

    def fitting(value, digits):
        sums = ((a / 40 + b / 31 + s, s) for a in range(41) for b in range(32) for s in shares)
        return Counter(s for total, s in sums if abs(total / 3 - value) <= 0.51 * 10**-digits)

    counts = site(rare=(9, 6, 3))
    within = rows_of(counts, right)[0]["metrics"]["balanced_accuracy"]
    assert set(fitting(within, 6).values()) == {1}
    left = outside(counts, right)["score"]["rows"][0]["metrics"]["balanced_accuracy"]
    assert sum(n > 5 for n in fitting(left, 2).values()) >= 3


def test_where_every_class_has_enough_images_all_leaves_as_it_is():
    counts = site()
    known = outside(counts)
    there = rows_of(counts, (30, 20, 2))
    for left, row in zip(known["score"]["rows"], there, strict=True):
        assert left["n"] == row["n"]
        assert left["metrics"] == pytest.approx(row["metrics"], abs=0.005 if min(row["n"].values()) <= 25 else 5e-4)
    measured = put(measures_of(counts), ("geometry", "values", "geometry", "value"), 12 / 47)
    for name, of in measured.items():
        assert known["score"]["measures"][name]["values"][name]["n"] == of["values"][name]["n"]
    assert known["score"]["measures"]["fid"]["moments"] == measured["fid"]["moments"]
    assert known["train"]["weight"] == 64


def test_a_few_images_without_a_mask_are_a_small_cell_too():
    row = put(put(ROW, ("n",), {"dice": 38, "auroc": 40}), ("n", "false_positive_rate"), 2) | {
        "metrics": {"dice": 0.712345, "auroc": 0.5}
    }
    out = leave("reference", {"rows": [row]})["rows"][0]
    assert (out["n"], out["metrics"]) == (
        {"dice": "withheld", "auroc": "withheld", "false_positive_rate": "< 5"},
        {"dice": 0.71, "auroc": None},
    )
    none = leave("reference", {"rows": [put(row, ("n", "false_positive_rate"), 0)]})["rows"][0]
    assert none["n"] == {"dice": 38, "auroc": 40, "false_positive_rate": "< 5"}


def test_a_site_with_a_small_cell_is_weighed_by_what_is_shown():
    known = outside(site(rare=(3, 2, 12)))
    assert known["train"]["weight"] == 55
    held = 8 + 40 + 7 + 31 + 12
    found = {name: of["values"][name]["n"] for name, of in known["score"]["measures"].items()}
    assert found == {
        "fid": {"real": held, "train": 55},
        "geometry": {"real": held, "train": 55},
        "ms_ssim": {"real": held},
        "membership": {"real": 55 + held, "members": 55, "non_members": held},
    }
    assert {k: m["n"] for k, m in known["score"]["measures"]["fid"]["moments"].items()} == {
        "held_out": held,
        "train": 55,
    }
    assert known["score"]["measures"]["fid"]["values"]["fid"]["value"] == 0.255  # 12 / 47 would say 47


def test_where_no_cell_is_shown_moments_stay_and_a_weight_is_left():
    known = outside(site(none=(4, 4, 4), glioma=(4, 4, 4), rare=(4, 4, 4)), (1, 1, 1))
    assert known["score"]["measures"]["fid"]["moments"] == {}
    assert known["train"]["weight"] == 1


@pytest.mark.parametrize(("floor", "leaves"), [(0.0, 0.0), (1.0, None), (4.0, None), (5.0, 5.0), (None, None)])
def test_a_floor_that_counts_a_few_held_out_images_does_not_leave_and_the_number_of_copies_does(floor, leaves):
    copies = {
        "copies_pixel": NUMBER | {"value": 1234.0, "floor": floor},
        "nearest_ratio_pixel": NUMBER | {"floor": 1.0},
    }
    for cells in ({}, site(rare=(9, "< 5", 12))):
        out = leave("score", {"rows": [], "measures": {"copies": {"values": copies, "moments": {}}}}, cells=cells)[
            "measures"
        ]["copies"]["values"]
        assert (out["copies_pixel"]["value"], out["copies_pixel"]["floor"]) == (1234.0, leaves)
        assert out["nearest_ratio_pixel"]["floor"] == 1.0
        assert out["copies_pixel"]["n"]["synthetic"] == 30  # the centre's interval ends there


def test_the_stages_whose_answers_pass_the_door_are_done_again_where_its_smallest_cell_changes():
    stages = yaml.safe_load((Path(__file__).parents[2] / "dvc.yaml").read_text())["stages"]
    for name in ("validate", "reference", "train", "score"):
        keys = stages[name].get("do", stages[name])["meta"]["params"]
        assert {"consortium", "consortium.min_cell"} & set(keys), name


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


@pytest.mark.parametrize(
    ("val", "leaves"), [({"none": 8, "some": 9}, True), ({"none": 20, "some": "< 5"}, False), ({"none": 3}, False)]
)
def test_a_score_of_few_validation_images_stays(val, leaves):
    cells = {label: {"train": 20, "val": n, "test": 20} for label, n in val.items()}
    out = leave("train", TRAIN | {"score": 21.5}, cells=cells)
    assert out["score"] == (21.5 if leaves else None)


@pytest.mark.parametrize(("labels", "most"), [("aaaaaabb", 4 + 4), ("aaaaaaab", 4 + 4), ("aaaaaaaa", 5 + 4)])
def test_how_many_images_one_subject_has_depends_on_no_hidden_cell(labels, most):
    """Subject 1 has five images; of class b there are too few to be shown, none in the last case."""
    cells = {"a": {"train": 6}, "b": {"train": "< 5"}}
    subjects = [1, 1, 1, 1, 2, 2, 1, 2] if labels != "aaaaaaab" else [1, 1, 1, 1, 2, 2, 2, 1]
    assert outgoing.most_told(subjects, list(labels), cells, 5, "train") == most
    assert outgoing.most_told(subjects, list(labels), {"a": {"train": 8}}, 5, "train") == 5
    assert outgoing.most_told([], [], {}, 5, "train") == 1
