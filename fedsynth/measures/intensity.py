"""Distance between intensity histograms, synthetic against real; needs no features and detects a wrong scale."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from fedsynth.measures import About, Answer, Measure, MeasureInputs, in_parts
from fedsynth.measures._statistics import beside_floor

BINS = 1024  # on [-1, 1]: binning changes a pixel value by less than 0.001


class Intensity(Measure):
    """Wasserstein-1 distance between the distributions of pixel values, averaged over the image channels.

    Its unit is that of the scale [-1, 1].
    """

    about: ClassVar = {
        "intensity_distance": About(
            "lower",
            "intensity distance",
            "Wasserstein-1 distance between the pixel values of held-out real and of synthetic images, mean over the"
            " image channels, in units of the scale from -1 to 1.",
            (0.0, 2.0),
        ),
    }
    independent = False

    def at_site(self, seen: MeasureInputs) -> Answer:
        sets = (*seen.real, seen.synthetic)
        held_out, train, synthetic = (in_parts(lambda part: histograms(seen.pixels(part)), of) for of in sets)
        return Answer(
            beside_floor(
                seen, lambda a, b: {"intensity_distance": distance(a, b)}, held_out, train, synthetic, "intensity"
            )
        )


def histograms(images: np.ndarray) -> np.ndarray:
    """Returns counts (N, I, BINS) of pixels (N, I, *S) in [-1, 1]; those of a subset of images are a sum.

    They are of the smallest type that holds an image's pixels.
    """
    n, channels, pixels = *images.shape[:2], math.prod(images.shape[2:])
    places = np.clip(((images.reshape(n, channels, pixels) + 1) / 2 * BINS).astype(int), 0, BINS - 1)
    counts = [[np.bincount(channel, minlength=BINS) for channel in image] for image in places]
    return np.array(counts, dtype=np.min_scalar_type(pixels)).reshape(n, channels, BINS)


def distance(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Returns the distance of histograms (N, I, BINS) and (N', I, BINS); NaN without images."""
    if not (len(reference) and len(candidate)):
        return float("nan")
    from scipy.stats import wasserstein_distance

    values = (np.arange(BINS) + 0.5) * 2 / BINS - 1
    pairs = zip(*(counts.sum(0, dtype=np.int64) for counts in (reference, candidate)), strict=True)
    return float(np.mean([wasserstein_distance(values, values, real, fake) for real, fake in pairs]))
