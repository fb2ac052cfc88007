"""What every set of images must be, real or synthetic, as a list that names Great Expectations' classes and does not
import them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fedsynth.data.manifest import SPLITS, by
from fedsynth.params import Image, Params
from fedsynth.validation.columns import FLAT

AGAIN = "run ingest again; if it comes back, the files at the site have changed in between"

# Every expectation by its plain name, with what to do where it is not met. Only these names leave a hospital
# (fedsynth/hospital/outgoing.py).
HINTS = {
    "columns of the manifest": "run ingest again; the manifest's columns are in fedsynth/data/manifest.py",
    "at least one image": "the site has no image: check where its source looks, then ingest",
    "files can be read": "mend or remove the file, then ingest again",
    "unique image ids": AGAIN,
    "known labels": "correct the label at the source, or add it to image.labels in params.yaml",
    "known splits": AGAIN,
    "known origin": AGAIN,
    "modality as configured": "the image channels in params.yaml are others: run ingest again with these params",
    "shape as configured": "image.size or image.channels in params.yaml are others: run ingest again with these params",
    "pixels match the manifest": AGAIN,
    "unique hashes": "the same pixels are there more than once: keep one of the files, then ingest again",
    "no NaN or infinite values": (
        "mend the file (its values as read are not all finite) or remove it, then ingest again"
    ),
    "finite intensities in [-1, 1]": (
        "ingest scales every image to [-1, 1]; run it again, or look at what wrote this set"
    ),
    "no blank image": "a channel has one value everywhere: look at the file, replace or remove it, then ingest again",
    "each subject in one split": (
        "a patient's images must not part: give them one subject at the source, then ingest again"
    ),
    "masks match their image": (
        "the mask has another size than its image: export it again on the image's grid, then ingest again"
    ),
    "masks are -1 or 1": AGAIN,
    "masks match their label": (
        "mend the label or the mask; image.empty_labels in params.yaml names the labels whose mask is empty"
    ),
    "similar spacing": "voxels are of another size than in most images of the set: check the spacing at the source",
    "resolution kept": "small findings may be lost at this size: choose a larger image.size",
    "usual mean intensity": "far brighter or darker than most images of the set: look at it",
    "enough images of each class and split": (
        "add images of this class, choose other shares in split, lower expectations.min_images, "
        "or set expectations.every_class to false where a site may have none at all"
    ),
}


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
        _between("no NaN or infinite values", "nonfinite", (0, 0), "not_finite"),
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
        _equal("masks match their image", "mask_frame", "source_shape", "shapes"),
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
        _between(name, column, (None, most), shows, severity="warning")
        for name, column, most, shows in listed
        if most is not None
    ]


def _among(name: str, column: str, values: list[str]) -> Rule:
    return Rule(name, "ColumnValuesToBeInSet", {"column": column, "value_set": values}, column)


def _equal(name: str, a: str, b: str, shows: str = "") -> Rule:
    return Rule(name, "ColumnPairValuesToBeEqual", {"column_A": a, "column_B": b, "ignore_row_if": "neither"}, shows)


def _at_least(name: str, a: str, b: str, shows: str) -> Rule:
    return Rule(name, "ColumnPairValuesAToBeGreaterThanB", {"column_A": a, "column_B": b, "or_equal": True}, shows)


def _between(name: str, column: str, bounds: tuple[float | None, float | None], shows: str = "", **rest: Any) -> Rule:
    ends = {key: value for key, value in zip(("min_value", "max_value"), bounds, strict=True) if value is not None}
    return Rule(name, "ColumnValuesToBeBetween", {"column": column} | ends, shows or column, **rest)
