"""Calibration by group leaves in groups that are large enough, and nothing from which a small one would follow."""

from __future__ import annotations

from typing import Any

import pytest

from fedsynth.hospital import outgoing
from fedsynth.hospital.outgoing import LeakError

LABELS = ["none", "lesion"]
MANY = {label: {"train": 30, "val": 9, "test": 20} for label in LABELS}
FEW = MANY | {"lesion": {"train": 30, "val": 9, "test": "< 5"}}
KNOWN = ["classification", "north", "vae", *LABELS, "all", "female", "male", "unknown", "60-79", "80+"]


def entry(by: str, group: str, n: Any, value: float | None = 0.123456) -> dict[str, Any]:
    ends = {"value": value, "low": value, "high": value}
    return {"use": "classification", "name": "synthetic", "model": "vae", "site": "north", "by": by, "group": group,
            "n": n} | ends  # fmt: skip


def left(*entries: dict[str, Any], cells: Any = MANY) -> dict[str, tuple[Any, Any]]:
    answer = outgoing.leave("score", {"rows": [], "calibration": list(entries)}, KNOWN, 5, cells)
    again = outgoing.arrive("score", answer, KNOWN, 5, cells)
    assert again == answer, "the centre's own door changes nothing"
    return {of["group"]: (of["n"], of["value"]) for of in answer["calibration"]}


def test_large_groups_leave_with_as_many_digits_as_their_images_support() -> None:
    assert left(entry("site", "all", 40), entry("sex", "female", 18), entry("sex", "male", 22)) == {
        "all": (40, 0.123),
        "female": (18, 0.12),
        "male": (22, 0.12),
    }


def test_with_a_small_group_its_whole_partition_is_withheld_for_it_would_follow_by_subtraction() -> None:
    found = left(entry("site", "all", 40), entry("age", "60-79", 37), entry("age", "80+", 3), entry("sex", "male", 40))
    assert found["60-79"] == ("withheld", None)
    assert found["80+"] == ("< 5", None)
    assert found["male"] == (40, 0.123), "another partition"


def test_patients_who_are_few_withhold_it_too() -> None:
    found = left(entry("sex", "female", "withheld", None), entry("sex", "male", 30))
    assert found == {"female": ("withheld", None), "male": ("withheld", None)}


def test_where_a_class_has_few_test_images_none_leaves() -> None:
    found = left(entry("site", "all", 40), entry("class", "none", 38), cells=FEW)
    assert found == {"all": ("withheld", None), "none": ("withheld", None)}


@pytest.mark.parametrize("more", [{"group": "Anna Muster"}, {"by": "subject"}, {"ages": [63, 71]}, {"value": "63"}])
def test_no_row_and_no_other_name_fits_in(more: dict[str, Any]) -> None:
    with pytest.raises(LeakError):
        outgoing.leave("score", {"rows": [], "calibration": [entry("age", "80+", 9) | more]}, KNOWN, 5, MANY)
