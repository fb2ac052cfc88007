"""Diversity by MS-SSIM between images of a class: detects mode collapse."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.data.stored import at_once
from fedsynth.measures import SHARE, About, Answer, Measure, MeasureInputs, Value
from fedsynth.measures._statistics import bootstrap

WANG = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # weights of the scales (Wang et al. 2003)
KERNEL = 7  # pixels; with the usual 11, an image of 32 pixels would have only two scales


class MSSSIM(Measure):
    """Mean multi-scale structural similarity of random pairs of images of one class, averaged over the classes.

    Odena et al. 2017, arXiv:1610.09585, section 4.2. `pairs` is the largest number of pairs in all. No image is in two
    synthetic pairs, so that pairs are independent and can be bootstrapped. Better is nearer to the floor, the value for
    real pairs: above it the images vary less than real ones, below it they have something that real ones lack.
    """

    about: ClassVar = {
        "ms_ssim": About(
            "floor",
            "MS-SSIM",
            "Mean multi-scale structural similarity of pairs of synthetic images of one class (1: all the same); the"
            " floor is that of pairs of the site's real training images. Above it: less variety than in real images.",
            SHARE,
        ),
    }
    independent = False

    def __init__(self, pairs: int = 200):
        if pairs < 1:
            raise ValueError(f"pairs must be 1 or more, not {pairs}")
        self.pairs = pairs

    def at_site(self, seen: MeasureInputs) -> Answer:
        train = seen.real[1]
        counts = {"real": len(train), "synthetic": len(seen.synthetic)}
        made = self.similarities(seen, seen.synthetic, matchings=1)
        if not made:
            return Answer({"ms_ssim": Value(None, counts)})
        real = self.similarities(seen, train, matchings=20)  # without an interval: the pairs need not be independent
        # The floor must be a mean over the same classes as the value.
        floor = _mean_of_means(*real.values()) if real.keys() == made.keys() else None
        return Answer(
            {
                "ms_ssim": bootstrap(
                    seen, _mean_of_means, *made.values(), purpose="ms_ssim bootstrap", n=counts, floor=floor
                )
            }
        )

    def similarities(self, seen: MeasureInputs, images: ImageSet, matchings: int) -> dict[int, np.ndarray]:
        """Returns by class the similarities (P,) of its pairs; classes with a single image are left out."""
        rng, labels = seen.generator("ms_ssim"), images.labels(seen.image)
        most = max(1, self.pairs // len(seen.image.labels))
        chosen = {int(k): pairs(np.flatnonzero(labels == k), rng, matchings)[:most] for k in np.unique(labels)}
        return {k: self._of_pairs(seen, images, p) for k, p in chosen.items() if len(p)}

    def _of_pairs(self, seen: MeasureInputs, images: ImageSet, places: np.ndarray) -> np.ndarray:
        """Returns (P,) the similarities of pairs of images at `places` (P, 2), read batch by batch."""
        channels, step = seen.image.index(seen.image.originals), at_once(seen.image.size)
        batches = [places[start : start + step] for start in range(0, len(places), step)]
        sides = ([images.images[of][:, channels] for of in batch.T] for batch in batches)
        return np.concatenate([similarity(one, other) for one, other in sides])


def pairs(places: np.ndarray, rng: np.random.Generator, matchings: int) -> np.ndarray:
    """Returns (P, 2) distinct unordered random pairs of the indices `places` (N,).

    In each of the `matchings` an index is in at most one pair.
    """
    half = len(places) // 2
    found = [np.sort(rng.permutation(places)[: 2 * half].reshape(half, 2), axis=1) for _ in range(matchings)]
    whole = np.concatenate(found)
    return whole[np.sort(np.unique(whole, axis=0, return_index=True)[1])]


def similarity(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns (N,) MS-SSIM between two arrays of images (N, I, *S) in [-1, 1], averaged over the channels."""
    import torch

    from fedsynth.networks.monai_imports import monai_imports

    with monai_imports():
        from monai.metrics.regression import compute_ms_ssim
    kernel, weights = scales(one.shape[2:])
    # Rescaled to [0, 1]: the luminance term of SSIM is defined for non-negative values.
    a, b = ((torch.from_numpy(x) + 1) / 2 for x in (one, other))
    found = compute_ms_ssim(a, b, a.ndim - 2, data_range=1.0, kernel_size=kernel, weights=weights)
    return found.numpy().ravel().astype(np.float64)


def scales(size: tuple[int, ...]) -> tuple[int, tuple[float, ...]]:
    """Returns the kernel size and the weights of as many scales, at most five, as MONAI allows for the image size.

    The downsampled image must not be smaller than the kernel; MONAI's condition is stricter.
    """
    smallest = min(size)
    kernel = min(KERNEL, smallest - 1 + smallest % 2)
    halvings = [s for s in range(len(WANG)) if smallest // max(2**s, s * s) >= kernel]
    weights = WANG[: len(halvings)]
    return kernel, tuple(w / sum(weights) for w in weights)


def _mean_of_means(*by_class: np.ndarray) -> float:
    return float(np.mean([values.mean() for values in by_class]))
