"""Reference models of an attack, trained on a site's held-out patients: how hard an image is for models without it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.measures import MeasureInputs

if TYPE_CHECKING:
    from fedsynth.families import Family


def references(seen: MeasureInputs, count: int) -> Iterator[tuple[Family, np.ndarray]]:
    """Yield `count` (even) models, each with the names of the patients that it may judge.

    The held-out patients are dealt to two halves, count / 2 times anew; one model is trained on each half. It judges
    the other half, and a random half of the members: so each image is judged by count / 2 models that have not seen
    it, and members and non-members are judged alike.
    """
    assert seen.retrain is not None
    held_out, train = seen.real
    for pair in range(count // 2):
        rng = seen.generator(f"references {pair}")
        first, others = (halves(images, seen, rng) for images in (held_out, train))
        for number, keep in enumerate((True, False)):
            model = seen.retrain(held_out.where(first == keep), 1 + 2 * pair + number)
            judged = held_out.patients()[first != keep], train.patients()[others == keep]
            yield model, np.unique(np.concatenate(judged))


def halves(images: ImageSet, seen: MeasureInputs, rng: np.random.Generator) -> np.ndarray:
    """Returns (N,) bool: the images of a random half of the patients, class by class (of a patient's first image)."""
    names, at = np.unique(images.patients(), return_index=True)
    labels = images.labels(seen.image)[at]
    # those of a class one after the other, so that every second one is half of each class
    dealt = np.concatenate([rng.permutation(names[labels == k]) for k in np.unique(labels)])
    return np.isin(images.patients(), dealt[::2])


def calibrated(target: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Returns (N,): how much lower the losses `target` (N, K) are than those of reference models foretell.

    The difference of log-likelihoods with and without the image is what LiRA (Carlini et al. 2022, arXiv:2112.03570,
    section IV.C, offline) and RMIA (Zarifzadeh et al. 2024, arXiv:2312.03262, equation 4: its comparison with other
    images keeps the order) judge by. A reference model of fewer images has larger losses, so the losses foretold are
    those of a regression over all images together, which knows of none whether it is a member. Each of the K
    differences counts in its own standard deviations.
    """
    x, y = reference - reference.mean(0), target - target.mean(0)
    slope = (x * y).sum(0) / np.maximum((x * x).sum(0), 1e-30)
    less = np.maximum(slope, 0) * x - y
    return (less / np.maximum(less.std(0), 1e-30)).mean(1)
