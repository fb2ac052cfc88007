"""Calibration by group: the use's own numbers, intervals that cover, and who is named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fedsynth.data.manifest import frame
from fedsynth.uses.classification import Classification, calibration_error, confidence
from fedsynth.worth.calibration import at_site, groups, interval, said, worst

RNG = np.random.default_rng(0)


def table(n: int, sharp: float = 1.0) -> dict[str, np.ndarray]:
    logits = RNG.normal(0, 1.5, (n, 3))
    truth = np.array([RNG.choice(3, p=np.exp(row) / np.exp(row).sum()) for row in logits])
    return {"logits": (sharp * logits).astype(np.float32), "y": truth}


def rows(n: int, each: int = 1) -> pd.DataFrame:
    who = [f"p{i // each}" for i in range(n)]
    return pd.DataFrame({"subject": who, "image_id": who, "label": [["a", "b"][i % 2] for i in range(n)],
                         "sex": [["female", "male", ""][i // each % 3] for i in range(n)], "age": ""})  # fmt: skip


def test_that_of_a_whole_site_is_the_use_s_own_number() -> None:
    several = [table(200), table(200)]
    use = Classification(images=1, labels=3, size=(8, 8))
    (whole, *_) = at_site(several, rows(200), ["a", "b"], 5, 1)
    assert (whole["by"], whole["n"]) == ("site", 200)
    assert whole["value"] == pytest.approx(np.mean([use.summarise(of)[0]["ece"] for of in several]), abs=1e-6)


def test_a_network_that_is_too_sure_has_a_large_error_and_an_honest_one_hardly_any() -> None:
    assert calibration_error(*confidence(table(4000))) < 0.03
    assert calibration_error(*confidence(table(4000, sharp=4.0))) > 0.15


def test_the_interval_is_of_patients_not_of_images() -> None:
    alone = table(120, sharp=4.0)
    often = {k: np.repeat(v, 10, axis=0) for k, v in alone.items()}
    wide = interval([confidence(alone)], np.arange(120), 1)
    same = interval([confidence(often)], np.repeat(np.arange(120), 10), 1)
    assert same == pytest.approx(wide, abs=1e-6), "ten copies of an image tell nothing more"
    assert wide[2] - wide[1] > 0.05
    assert interval([confidence(table(5))], np.zeros(5, int), 1)[1:] == (None, None), "one patient has no interval"


def test_groups_are_the_site_its_classes_and_the_sexes_that_are_known() -> None:
    found = [(by, group, int(chosen.sum())) for by, group, chosen in groups(rows(12), ["a", "b", "c"])]
    assert found == [("site", "all", 12), ("class", "a", 6), ("class", "b", 6), ("class", "c", 0),
                     ("sex", "female", 4), ("sex", "male", 4), ("sex", "unknown", 4)]  # fmt: skip
    assert not [by for by, _, _ in groups(rows(12).assign(sex=""), ["a"]) if by == "sex"]


def test_a_sex_of_few_patients_says_no_number_however_many_images_they_have() -> None:
    found = at_site([table(60)], rows(60, each=10), ["a", "b"], 5, 1)
    assert {of["group"]: of["n"] for of in found if of["by"] == "class"} == {"a": 30, "b": 30}
    assert {(of["n"], of["value"]) for of in found if of["by"] == "sex"} == {("withheld", None)}


def test_the_worst_is_the_largest_that_is_known() -> None:
    entries = [{"site": "north", "by": "site", "group": "all", "value": 0.1},
               {"site": "east", "by": "age", "group": "80+", "value": 0.3},
               {"site": "east", "by": "sex", "group": "male", "value": None}]  # fmt: skip
    assert said(worst(entries)) == "age 80+ at east"
    assert worst(entries[2:]) is None
    assert "sex" in frame([]).columns
