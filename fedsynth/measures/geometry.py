"""Distances between the distributions of mask area, position and count, synthetic against real."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.measures import SHARE, About, Answer, Measure, MeasureInputs, Value, in_parts
from fedsynth.measures._needs import a_mask
from fedsynth.measures._statistics import beside_floor

if TYPE_CHECKING:
    from collections.abc import Collection

    from fedsynth.params import Image
    from fedsynth.uses import Use


class Geometry(Measure):
    """Wasserstein-1 distances between the distributions of mask area, centre and number of separate parts.

    They are over the images of the classes with a mask (`image.empty_labels` names the others), each averaged over the
    mask channels. None without a mask channel or a real mask.
    """

    about: ClassVar = {
        "mask_area_distance": About(
            "lower",
            "mask area distance",
            "Wasserstein-1 distance between the areas of held-out real and of synthetic masks, as shares of the image.",
            SHARE,
        ),
        "mask_position_distance": About(
            "lower",
            "mask position distance",
            "Wasserstein-1 distance between the masks' centres, as shares of the image's size, mean over the axes;"
            " without empty masks.",
            SHARE,
        ),
        "mask_count_distance": About(
            "lower",
            "mask count distance",
            "Wasserstein-1 distance between the numbers of separate parts that a mask has (touching at a corner is one"
            " part).",
        ),
    }
    independent = False

    def lacks(self, image: Image, uses: Collection[Use]) -> dict[str, str]:
        missing = a_mask(image)
        return dict.fromkeys(self.about, missing) if missing else {}

    def at_site(self, seen: MeasureInputs) -> Answer:
        sets = with_mask(seen, seen.real[0]), with_mask(seen, seen.real[1]), with_mask(seen, seen.synthetic)
        held_out, train, synthetic = (shapes(seen, images) for images in sets)
        if not (held_out[:, :, 0] > 0).any():
            counts = {"real": len(held_out), "train": len(train), "synthetic": len(synthetic)}
            return Answer({name: Value(None, counts) for name in self.about})
        return Answer(beside_floor(seen, distances, held_out, train, synthetic, "geometry", sets))


def with_mask(seen: MeasureInputs, images: ImageSet) -> ImageSet:
    """Returns the images whose class has a mask, and whose masks are known."""
    known = [images.has(seen.image, name) for name in seen.image.masks]
    return images.where(np.all([~images.manifest["label"].isin(seen.image.empty_labels), *known], axis=0))


def shapes(seen: MeasureInputs, images: ImageSet) -> np.ndarray:
    """Returns (N, M, 2 + D): area, number of parts, and centre along each of D axes (NaN for an empty mask)."""

    def of_part(part: ImageSet) -> np.ndarray:
        masks = seen.masks(part)
        found = np.array([[shape(m) for m in channels] for channels in masks], dtype=float)
        return found.reshape(len(masks), masks.shape[1], 2 + len(seen.image.size))

    return in_parts(of_part, images)


def shape(mask: np.ndarray) -> list[float]:
    """Returns area, number of parts and centre of a mask (*S); area and centre as shares of the image."""
    from scipy import ndimage

    parts = ndimage.label(mask, np.ones((3,) * mask.ndim))[1]
    middle = (np.argwhere(mask).mean(0) + 0.5) / mask.shape if parts else np.full(mask.ndim, np.nan)
    return [float(mask.mean()), float(parts), *middle.tolist()]


def distances(reference: np.ndarray, candidate: np.ndarray) -> dict[str, float]:
    """Returns the distances between shapes (N, M, 2 + D) and (N', M, 2 + D) by name; NaN if one set has no mask."""
    channels = range(reference.shape[1])
    area, count, *axes = (
        _mean([_wasserstein(reference[:, m, i], candidate[:, m, i]) for m in channels])
        for i in range(reference.shape[2])
    )
    return {"mask_area_distance": area, "mask_position_distance": _mean(axes), "mask_count_distance": count}


def _wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import wasserstein_distance

    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    return float(wasserstein_distance(a, b)) if len(a) and len(b) else float("nan")


def _mean(values: list[float]) -> float:
    """Mean of the values that are not NaN: a mask channel may be empty in all images of a site."""
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")
