"""The expectations on every image set, real or synthetic, as data: class names and arguments of Great Expectations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fedsynth.data.manifest import SPLITS, by
from fedsynth.params import Image, Params
from fedsynth.validation.columns import FLAT


@dataclass(frozen=True)
class Rule:
    """One Great Expectation. Rules of one name are one expectation to a person; `shows` is the column whose value they
    are told.
    """

    name: str
    kind: str  # class in great_expectations.expectations, without its "Expect"
    args: dict[str, Any]
    shows: str = ""
    severity: Literal["critical", "warning"] = "critical"

    @property
    def columns(self) -> list[str]:
        return [value for key, value in self.args.items() if key.startswith("column")]


def of_table() -> list[Rule]:
    """What is asked of all rows."""
    return [
        Rule("at least one image", "TableRowCountToBeBetween", {"min_value": 1}),
        _among("files can be read", "problem", [""]),
        Rule("unique image ids", "ColumnValuesToBeUnique", {"column": "image_id"}, "image_id"),
    ]


def of_images(params: Params) -> list[Rule]:
    """What is asked of each row without a problem. Columns that are not the manifest's are made in
    fedsynth/validation/columns.py.
    """
    image = params.image
    return [
        _among("known labels", "label", image.labels),
        _among("known splits", "split", list(SPLITS)),
        _among("known origin", "origin", ["real", "synthetic"]),
        _among("modality as configured", "modality", ["+".join(image.images)]),
        _among("shape as configured", "shape", [by(image.size)]),
        *(
            _equal("pixels match the manifest", f"{column}", f"stored_{column}")
            for column in ("sha256", "mask_sha256", "mask_area")
        ),
        Rule("unique hashes", "ColumnValuesToBeUnique", {"column": "sha256"}, "same_as"),
        _between("finite intensities in [-1, 1]", "unknown", (0, 0), "statistics"),
        _between("finite intensities in [-1, 1]", "lowest", (-1.0, None), "statistics"),
        _between("finite intensities in [-1, 1]", "highest", (None, 1.0), "statistics"),
        _between("no blank image", "stored_std", (FLAT, None), "flat"),
        _between("each subject in one split", "subject_splits", (1, 1), "subject_in"),
        *(_of_masks(image) if image.masks else []),
        *_of_comparison(params),
    ]


def of_cells() -> list[Rule]:
    """What is asked of each class and split, a row each."""
    return [_at_least("enough images of each class and split", "images", "least", "cell")]


def _of_masks(image: Image) -> list[Rule]:
    """Whether a label's mask is empty is for params.yaml to say, `image.empty_labels`; where it names none, there is no
    such rule.
    """
    of_labels = [
        _at_least("masks match their label", "mask_area", "mask_least", "labelled"),
        _at_least("masks match their label", "mask_most", "mask_area", "labelled"),
    ]
    return [
        _between("masks are -1 or 1", "stored_mask_odd", (0, 0)),
        *(of_labels if image.empty_labels else []),
    ]


def _of_comparison(params: Params) -> list[Rule]:
    """Warnings: what a person should look at and may be right."""
    asked = params.expectations
    listed = [
        ("similar spacing", "spacing_ratio", asked.max_spacing_ratio, "spacing_mm"),
        ("resolution kept", "resolution_loss", asked.max_resolution_loss, "reduced"),
        ("usual mean intensity", "mean_off", asked.max_outlier, "mean"),
    ]
    return [
        _among("nothing doubtful on reading", "warning", [""], severity="warning"),
        *([_among("masks are known", "unmarked", [""], severity="warning")] if params.image.masks else []),
        *_within(listed),
    ]


def _within(listed: list[tuple[str, str, float | None, str]]) -> list[Rule]:
    """Warnings for a column above a limit, where there is one."""
    return [
        _between(name, column, (None, most), shows, severity="warning")
        for name, column, most, shows in listed
        if most is not None
    ]


def _among(name: str, column: str, values: list[str], **rest: Any) -> Rule:
    return Rule(name, "ColumnValuesToBeInSet", {"column": column, "value_set": values}, column, **rest)


def _equal(name: str, a: str, b: str, shows: str = "") -> Rule:
    return Rule(name, "ColumnPairValuesToBeEqual", {"column_A": a, "column_B": b, "ignore_row_if": "neither"}, shows)


def _at_least(name: str, a: str, b: str, shows: str) -> Rule:
    return Rule(name, "ColumnPairValuesAToBeGreaterThanB", {"column_A": a, "column_B": b, "or_equal": True}, shows)


def _between(name: str, column: str, bounds: tuple[float | None, float | None], shows: str = "", **rest: Any) -> Rule:
    ends = {key: value for key, value in zip(("min_value", "max_value"), bounds, strict=True) if value is not None}
    return Rule(name, "ColumnValuesToBeBetween", {"column": column} | ends, shows or column, **rest)
