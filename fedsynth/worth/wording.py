"""Formats numbers and metric names for report, card and registry."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from fedsynth.privacy import RELATIONS

Facts = dict[str, dict[str, Any]]  # model -> its facts (fedsynth/worth/facts.py)
# metric -> its name in text and its definition; other metrics are shown under their own names
METRICS = {
    "balanced_accuracy": (
        "balanced accuracy",
        (
            "the share of a class's images that were told right, mean over the classes that there are; guessing gives 1"
            " / their number"
        ),
    ),
    "auroc": (
        "AUROC",
        "the area under the ROC curve of each class against the rest, mean over all classes; guessing gives 0.5",
    ),
    "sensitivity": (
        "sensitivity",
        "of the images of a class, the share that was told as that class; mean over the classes",
    ),
    "specificity": (
        "specificity",
        "of the images of all other classes, the share that was not told as that class; mean over the classes",
    ),
    "ece": (
        "calibration error (ECE)",
        (
            "how far the network's confidence is from the share of answers that are right, mean over ten bins of"
            " confidence weighted by their images; 0 is calibrated, lower is better"
        ),
    ),
    "dice": (
        "Dice",
        (
            "2 |A ∩ B| / (|A| + |B|) of the found mask A and the true mask B, in an image over its mask channels that"
            " are not empty; mean over the test images that have a mask"
        ),
    ),
    "hd95": (
        "HD95 (pixels)",
        (
            "the 95th percentile of the distances between the outlines of the found and the true mask, in pixels; mean"
            " over the same images as Dice; where nothing was found, the image's diagonal counts; lower is better"
        ),
    ),
    "false_positive_rate": (
        "false-positive rate",
        "the share of the test images without any mask in which one was found; lower is better",
    ),
}
LOWER_IS_BETTER = {"false_positive_rate", "ece", "hd95"}


def label_of(metric: str) -> str:
    """Return the label of a metric: "sensitivity of none" for "sensitivity.none"."""
    name, _, label = metric.partition(".")
    said = METRICS.get(name, (name.replace("_", " "), ""))[0]
    return f"{said} of {label}" if label else said


def mean_of_uses(values: Iterable[Any]) -> float | None:
    """Return the mean of a number over the uses; None if one lacks it: a mean over fewer uses is another quantity."""
    known = list(values)
    return sum(known) / len(known) if known and all(map(is_number, known)) else None


def is_number(value: float | str | None) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def measured(value: float | None) -> str:
    """Format a number with three significant digits and no exponent; "missing" if it is not a finite number."""
    if not is_number(value):
        return "missing"
    size = abs(value)
    if 0 < size < 5e-5:
        return "under 0.0001" if value > 0 else "above −0.0001"
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3 if size >= 0.01 or value == 0 else 4
    return (str(int(value)) if value == int(value) else f"{value:.{digits}f}").replace("-", "−")


def began_said(model: Mapping[str, Any]) -> str:
    """Return in a sentence what a model began with, "" where that was the seed's weights alone.

    `model`: its model.json.
    """
    if not (began := model.get("began")):
        return ""
    return (
        f"begun with {began['from']} (SHA-256 {began['sha256'][:12]}…, {began['taken']} of {began['of']} parameters),"
        f" trained on {'; '.join(began['trained_on'])}"
    )


def epsilon_said(of: dict[str, Any]) -> tuple[str, str]:
    """Return epsilon as a number or a word, and a sentence that explains it."""
    if "epsilon" not in of:
        return "missing", "not judged"
    spent = of["epsilon"]
    if spent is not None and not is_number(spent.get("epsilon")):
        return "missing", spent.get("why") or "trained with differential privacy, but what was spent has not been told"
    if spent is None:
        return (
            "none",
            "trained without differential privacy: no bound holds for one who tries harder than these attacks",
        )
    return (
        measured(spent["epsilon"]),
        (
            f"this training, with delta = {spent.get('delta'):g}: whatever is done with the weights, {compared(spent)}"
            f" changes the odds of any outcome by at most a factor of e to the {measured(spent['epsilon'])}"
        ),
    )


def compared(spent: dict[str, Any]) -> str:
    """Return which two training sets an epsilon compares, such as "one image more or less"."""
    return RELATIONS[spent.get("relation", "add_remove")].format(unit=spent.get("unit", "image"))


def total_said(of: dict[str, Any]) -> tuple[str, str]:
    """Return epsilon of all trainings at a site as a number or a word, and a sentence that explains it."""
    spent = of.get("epsilon")
    if spent is None:
        return epsilon_said(of)[0], "no training with differential privacy, or not judged"
    if not is_number(spent.get("total")):
        return "missing", spent.get("why") or "a site has not told what all of its trainings have spent"
    return (
        measured(spent["total"]),
        (
            f"all private trainings so far at the site that has spent most, with delta = {spent.get('delta'):g}: for"
            " one subject more or less, with all of their images"
        ),
    )


def local_work(training: dict[str, Any]) -> str:
    """Return what a site does in a round, from a model's `training`: "6 local epochs" or "40 local steps"."""
    steps = training.get("local_steps")
    n, of = (steps, "step") if steps else (training["epochs"], "epoch")
    return f"{n:g} local {of}{'' if n == 1 else 's'}"
