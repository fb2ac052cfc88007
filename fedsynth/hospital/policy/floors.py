"""Floors of the policy, computed from what a job would really do with this site's images, not from what it says."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedsynth.hospital.outgoing import shown, told
from fedsynth.hospital.policy.model import Floors, Policy, PolicyError
from fedsynth.hospital.policy.question import Question
from fedsynth.params import Training

COMPARED, POINTS = 512, 2048  # images of a set, and values of each, that are compared for copies of each other
# Images are one image if the root mean square of their difference is below the larger of these: values of [-1, 1], and
# a share of the largest distance within the set.
ALIKE, ALIKE_SHARE = 0.005, 0.02


def hold(policy: Policy, asked: Question) -> None:
    """Raise PolicyError naming the floor that the job would fall below at this site."""
    if asked.job == "train" or (asked.job == "reference" and "rounds" in asked.config):
        _training_set(policy.floors, asked)
    if asked.job == "train":
        _training(policy.floors, Training.model_validate(asked.config["model"]["training"]), asked)
    if asked.job == "score":
        _synthetic(policy.floors, asked.arrays["set/images"])
    if asked.job in ("reference", "score"):
        _networks(policy.floors, asked.arrays)


def _trained(asked: Question) -> Any:
    """Return the rows of the images that models are trained on."""
    rows = asked.rows
    return rows[(rows["split"] == "train") & (rows["problem"] == "")]


def _training_set(floors: Floors, asked: Question) -> None:
    rows, least = _trained(asked), max(floors.images, asked.min_cell)
    if len(rows) < least:
        raise PolicyError("floors.images", f"{len(rows)} training images are here, and at least {least} must stand"
                                           " behind what leaves")  # fmt: skip
    if (there := rows["subject"].nunique()) < floors.subjects:
        said = f"the training images here are of {there} subjects, and at least {floors.subjects} are asked for"
        raise PolicyError("floors.subjects", said)


def _training(floors: Floors, training: Training, asked: Question) -> None:
    """Hold one round of a training: its distinct images, the share of the set, the subjects that they are of."""
    rows, key = _trained(asked), f"models.{asked.config['name']}.training"
    n, batch = len(rows), min(training.batch, len(rows))
    cells = shown(asked.rows, asked.config["params"]["image"]["labels"], asked.min_cell)
    steps = training.steps(told(n, cells, asked.min_cell, "train"))  # of as many images as the centre may know of
    seen = min(n, steps * batch)
    if batch < floors.batch:
        said = f"{key}.batch is {training.batch}: a step would rest on {batch} of the {n} training images here"
        raise PolicyError("floors.batch", f"{said}, and at least {floors.batch} are asked for")
    least = max(floors.images, asked.min_cell)
    if seen < least:
        said = f"{key}: {steps} steps of {batch} images are {seen} distinct images a round"
        raise PolicyError("floors.images", f"{said}, and at least {least} must stand behind what leaves")
    if (some := fewest_subjects(rows["subject"], seen)) < floors.subjects:
        said = (
            f"{key}: the {seen} images of a round may be of {some} subjects, at least {floors.subjects} are asked for"
        )
        raise PolicyError("floors.subjects", said)
    if seen < floors.share * n:
        which = f"local_steps is {training.local_steps}" if training.local_steps else f"epochs is {training.epochs:g}"
        said = f"{key}.{which}: a round would go over {seen} of {n} images, {floors.share:.0%}"
        raise PolicyError("floors.share", f"{said} are asked for")
    _ranges(floors, training, key)


def _ranges(floors: Floors, training: Training, key: str) -> None:
    """Hold the numbers that decide how directly a difference shows its gradients."""
    if training.clip is not None and training.clip < floors.clip:
        said = f"{key}.clip is {training.clip:g}, at least {floors.clip:g} is asked for: shorter gradients add up"
        raise PolicyError("floors.clip", said)
    if training.rounds > floors.rounds:
        raise PolicyError("floors.rounds", f"{key}.rounds is {training.rounds}, at most {floors.rounds} are allowed")
    low, high = floors.lr
    for rate in training.lr.values() if isinstance(training.lr, dict) else [training.lr]:
        if rate and not low <= rate <= high:
            raise PolicyError("floors.lr", f"{key}.lr is {rate:g}, allowed is {low:g} to {high:g}")


def fewest_subjects(subjects: Any, images: int) -> int:
    """Return of how many subjects that many images are at least: of those with the most images."""
    counts = subjects.value_counts().to_numpy().cumsum()
    return int(np.searchsorted(counts, min(images, counts[-1] if len(counts) else 0)) + 1) if len(counts) else 0


def first_layer(floors: Floors, share: float, family: str) -> None:
    """Hold the largest share of an image that one unit of a layer sees; `share`: families/_first_layer.py."""
    if share > floors.first_layer:
        said = (
            f"one unit of a first layer of {family} sees {share:.0%} of an image, allowed is {floors.first_layer:.0%}"
        )
        raise PolicyError("floors.first_layer", f"{said}: its difference could hold whole images")


def _synthetic(floors: Floors, images: np.ndarray) -> None:
    there = distinct(images)
    if there < floors.set_images:
        said = f"the set holds {there} distinct images, at least {floors.set_images} are asked for"
        raise PolicyError("floors.set_images", said)


def distinct(images: np.ndarray) -> int:
    """Return how many of a set's images (N, C, *S) are not nearly copies of an earlier one.

    Of larger sets, COMPARED evenly spaced images, with POINTS evenly spaced values of each, are compared, and the share
    counts for all.
    """
    n = len(images)
    if n < 2:
        return n
    some = images[:: -(-n // COMPARED)].reshape(-1, int(np.prod(images.shape[1:])))
    some = some[:, :: -(-some.shape[1] // POINTS)].astype(np.float64)
    squared = (some**2).sum(1)
    between = np.sqrt(np.maximum(squared[:, None] + squared[None] - 2 * some @ some.T, 0) / some.shape[1])
    alike = np.triu(between < max(ALIKE, ALIKE_SHARE * between.max()), 1).any(axis=0)  # to an earlier image
    return round((~alike).mean() * n)


def _networks(floors: Floors, arrays: dict[str, np.ndarray]) -> None:
    """Hold the weights of networks that are sent to be tested: finite, and no number that drowns all others."""
    for name, array in arrays.items():
        if not name.startswith("net/"):
            continue
        largest = float(np.abs(array).max()) if array.size and np.issubdtype(array.dtype, np.number) else 0.0
        if not largest <= floors.weights:  # also for NaN
            said = f"{name.removeprefix('net/')} holds {largest:g}, at most {floors.weights:g} is allowed"
            raise PolicyError("floors.weights", said)
