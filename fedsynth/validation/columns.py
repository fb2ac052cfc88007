"""Derived columns that expectations look at: pixel statistics and comparisons between rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from fedsynth.data.images import UNKNOWN
from fedsynth.data.manifest import sha256
from fedsynth.params import Image

FLAT = 1e-3  # standard deviation, of values in [-1, 1], at and below which a channel is blank
SCALE = 1.4826  # standard deviation of a normal distribution over its median absolute deviation


def compare(rows: pd.DataFrame, image: Image) -> pd.DataFrame:
    """Rows of a manifest, at least one, with columns on how each compares with the others and with params.yaml; needs
    no pixels.
    """
    empty, known = rows["label"].isin(image.empty_labels), rows["label"].isin(image.labels)
    without = rows["lacks"].str.split("+").map(lambda lacking: bool(image.masks) and set(image.masks) <= set(lacking))
    of_subject = rows["subject"].map({s: sorted(set(group)) for s, group in rows.groupby("subject")["split"]})
    spacing, source, stored = (_numbers(rows[c], len(image.size)) for c in ("spacing_mm", "source_shape", "shape"))
    deviation = (rows["mean"] - rows["mean"].median()).abs()
    spread = SCALE * deviation.median()
    return rows.assign(
        same_as=_same_as(rows),
        subject_splits=of_subject.map(len),
        subject_in=[f"subject {s} in {', '.join(names)}" for s, names in zip(rows["subject"], of_subject, strict=True)],
        lowest=rows["min"],
        highest=rows["max"],
        statistics=_statistics(rows),
        unknown=rows[["min", "max", "mean", "std"]].isna().sum(axis=1),
        unmarked=[", ".join(c for c in lacking.split("+") if c in image.masks) for lacking in rows["lacks"]],
        mask_least=(known & ~empty & ~without).astype(int),
        mask_most=np.where(empty, 0, len(image.masks) * np.prod(image.size)),
        labelled=rows["label"] + " with " + rows["mask_area"].astype(str) + " mask pixels",
        spacing_ratio=_off_median(spacing),
        resolution_loss=(source / stored).max(axis=1),
        reduced=rows["source_shape"] + " to " + rows["shape"],
        mean_off=deviation / spread if spread > 0 else 0.0,
    )


def pixel_statistics(rows: pd.DataFrame, images: Iterable[np.ndarray], image: Image) -> pd.DataFrame:
    """Rows with columns on their stored pixels, N images (C, *S) in the order of the rows."""
    seen = rows.join(pd.DataFrame([_pixel_statistics(array, image) for array in images], index=rows.index))
    return seen.assign(
        lowest=np.fmin(seen["min"], seen["stored_min"]),
        highest=np.fmax(seen["max"], seen["stored_max"]),
        unknown=seen["unknown"] + seen["stored_min"].isna(),
        statistics=_statistics(seen) + ", stored " + _statistics(seen, "stored_"),
    )


def _pixel_statistics(array: np.ndarray, image: Image) -> dict[str, Any]:
    planes, masks = array[: len(image.images)], array[len(image.images) :]
    deviations = dict(zip(image.images, planes.std(axis=tuple(range(1, planes.ndim))).tolist(), strict=True))
    lacking = {
        name for name, plane in zip(image.images, planes, strict=True) if name in image.may_lack and (plane == -1).all()
    }
    deviations = {name: std for name, std in deviations.items() if name not in lacking} or deviations
    flat = ", ".join(f"{name} is constant" for name, std in deviations.items() if not std > FLAT)
    return {
        "stored_sha256": sha256(planes),
        "stored_mask_sha256": sha256(masks) if len(masks) else "",
        "stored_mask_area": int((masks > 0).sum()),
        "stored_mask_odd": int((np.abs(masks[[(plane != UNKNOWN).any() for plane in masks]]) != 1).sum()),
        "stored_min": float(planes.min()),
        "stored_max": float(planes.max()),
        "stored_std": min(deviations.values()),  # of the channel that varies least
        "flat": flat,
    }


def cells(counts: dict[str, dict[str, int]], least: dict[str, int], labels: list[str]) -> pd.DataFrame:
    """A row for each class and split that has a least number of images."""
    table = [(label, split, counts[label][split], n) for label in labels for split, n in least.items()]
    frame = pd.DataFrame(table, columns=["label", "split", "images", "least"])
    texts = [
        f"{label} in {split}: {n} images, at least {at_least} are asked for" for label, split, n, at_least in table
    ]
    return frame.assign(cell=texts, place=range(len(frame)))


def _statistics(rows: pd.DataFrame, prefix: str = "") -> pd.Series:
    return rows[prefix + "min"].map("{:g}".format) + " to " + rows[prefix + "max"].map("{:g}".format)


def _same_as(rows: pd.DataFrame) -> list[str]:
    """For each row, which other images have its pixels."""
    names = rows["image_id"] + np.where(rows["file"] != "", " (" + rows["file"] + ")", "")
    groups = rows.groupby("sha256").indices
    others = [names.iloc[[j for j in groups[h] if j != i]] for i, h in enumerate(rows["sha256"])]
    return ["same pixels as " + ", ".join(o) if len(o) else "" for o in others]


def _numbers(texts: pd.Series, axes: int) -> np.ndarray:
    """(N, axes) of texts like "32x32"; NaN where there is no such text."""
    return np.array([_parse(text, axes) for text in texts], dtype=float).reshape(len(texts), axes)


def _parse(text: str, axes: int) -> list[float]:
    parts = text.split("x")
    try:
        return [float(part) for part in parts] if len(parts) == axes else [np.nan] * axes
    except ValueError:
        return [np.nan] * axes


def _off_median(spacing: np.ndarray) -> np.ndarray:
    """(N,) largest factor by which an axis (N, axes) is off the median; 1 where no row tells its spacing, inf where
    only some do not.
    """
    if np.isnan(spacing).all():
        return np.ones(len(spacing))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = spacing / np.nanmedian(spacing, axis=0)
        return np.nan_to_num(np.maximum(ratio, 1 / ratio).max(axis=1), nan=np.inf, posinf=np.inf)
