"""Sliced Wasserstein distance between fine patches: blur, noise and patterns that features do not see."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedsynth.measures import About, Answer, Measure, MeasureInputs, in_parts
from fedsynth.measures._fine import over_channels, pyramid, with_nan
from fedsynth.measures._statistics import beside_floor

if TYPE_CHECKING:
    from fedsynth.data.dataset import ImageSet

PATCH = 7  # pixels
DIRECTIONS = 32  # random projections of a patch
MOST = 2**14  # patches of an image and level; of larger images evenly spaced ones
TINY = 1e-6  # root mean square below which a channel is constant
BINS, ENDS = 128, 8.0  # of projections, in standard deviations of the real ones


class Texture(Measure):
    """Sliced Wasserstein-1 distance between the patches of the finest levels of a Laplacian pyramid.

    Karras et al. 2018, arXiv:1710.10196, section 5 and appendix A: patches of 7 x 7 pixels (in 3-D 7 x 7 x 7),
    projected on random directions. Other than there, each channel is on its own, because images may lack some; all
    patches of an image are taken; and values are in units of the real patches' root mean square alone, so that too weak
    a texture counts, too. `levels`: the mean is over so many levels, of which the first is the finest.
    """

    about: ClassVar = {
        "texture_distance": About(
            "lower",
            "texture distance",
            "Sliced Wasserstein distance between small patches of held-out real and of synthetic images at the finest"
            " scales, where noise, blur and patterns are; in standard deviations of the real patches, mean over the"
            " image channels.",
        ),
    }
    independent = False

    def __init__(self, levels: int = 2):
        if levels < 1:
            raise ValueError(f"levels must be 1 or more, not {levels}")
        self.levels = levels

    def at_site(self, seen: MeasureInputs) -> Answer:
        sizes = [level.shape[2:] for level in pyramid(np.zeros((1, 1, *seen.image.size)), self.levels)]
        weights = [directions(seen.generator("texture directions"), min(PATCH, *of), len(of)) for of in sizes]

        def by_level(of: Callable[..., np.ndarray], *others: list[np.ndarray]) -> Callable[[ImageSet], np.ndarray]:
            """(N, L, ...) of the images of a part: `of` each level, its directions and `others`."""
            return lambda part: np.stack(
                list(map(of, pyramid(with_nan(seen, part), self.levels), weights, *others)), axis=1
            )

        squares = in_parts(by_level(energy), seen.real[0])
        units = [unit_of(squares[:, level]) for level in range(len(sizes))]
        sets = (*seen.real, seen.synthetic)
        held_out, train, synthetic = (in_parts(by_level(counts, units), images) for images in sets)
        return Answer(
            beside_floor(seen, lambda a, b: {"texture_distance": distance(a, b)}, held_out, train, synthetic, "texture")
        )


def counted(rng: np.random.Generator, held_out: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Counts (N, I, DIRECTIONS, BINS) of the projected patches of each set of images (N, I, *S), in the unit of
    `held_out`.
    """
    weights = directions(rng, min(PATCH, *held_out.shape[2:]), held_out.ndim - 2)
    unit = unit_of(energy(held_out, weights))
    return [counts(images, weights, unit) for images in (held_out, *others)]


def energy(images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(N, I) float32 mean squares of the projections of images (N, I, *S)."""
    found = [np.square(projected(image, weights)).mean((1, 2)) for image in images]
    return np.array(found, np.float32).reshape(images.shape[:2])


def unit_of(energies: np.ndarray) -> np.ndarray:
    """(I,) root mean square of the projections of images with these energies (N, I), by channel.

    An image without a channel (NaN) counts none of it; NaN for a channel that is constant: it has no texture to compare
    with, and nothing is counted of it.
    """
    unit = np.sqrt([of[np.isfinite(of)].mean() if np.isfinite(of).any() else np.nan for of in energies.T])
    unit[unit < TINY] = np.nan
    return unit


def counts(images: np.ndarray, weights: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """(N, I, DIRECTIONS, BINS) counts of the projections of images (N, I, *S), in units (I,)."""
    out = np.zeros((*images.shape[:2], DIRECTIONS, BINS), np.uint16)
    for place, image in enumerate(images):
        out[place] = histograms(projected(image, weights) / unit[:, None, None])
    return out


def directions(rng: np.random.Generator, patch: int, dimensions: int) -> np.ndarray:
    """(DIRECTIONS, patch^D) of length 1."""
    drawn = rng.normal(size=(DIRECTIONS, *[patch] * dimensions))
    return drawn / np.sqrt(np.square(drawn).sum(tuple(range(1, drawn.ndim)), keepdims=True))


def projected(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(I, DIRECTIONS, P) float32: the projections of the P patches of each channel of an image (I, *S)."""
    import torch

    convolve = {2: torch.conv2d, 3: torch.conv3d}[image.ndim - 1]
    places = np.prod([size - weights.shape[1] + 1 for size in image.shape[1:]])
    step = int(np.ceil((places / MOST) ** (1 / (image.ndim - 1))))
    planes = torch.from_numpy(np.ascontiguousarray(image, np.float32))[:, None]
    return convolve(planes, torch.from_numpy(weights[:, None]).float(), stride=step).flatten(2).numpy()


def histograms(values: np.ndarray) -> np.ndarray:
    """(I, D, BINS) uint16 counts of values (I, D, P) between -ENDS and ENDS; values beyond are in the last bins.

    NaN is not counted.
    """
    out = np.zeros((*values.shape[:2], BINS), np.uint16)
    for c, of in enumerate(values):
        if np.isfinite(of).all():
            places = ((of.clip(-ENDS, ENDS) + ENDS) * (BINS / 2 / ENDS)).astype(int).clip(0, BINS - 1)
            flat = np.bincount((places + BINS * np.arange(len(of))[:, None]).ravel(), minlength=BINS * len(of))
            out[c] = flat.reshape(-1, BINS)
    return out


def distance(reference: np.ndarray, candidate: np.ndarray) -> float:
    """The distance of counts (N, L, I, D, BINS) and (N', L, I, D, BINS), mean over directions, levels and channels.

    Of one direction it is the area between the two cumulative distributions. NaN without images.
    """
    sums = [of.sum(0, dtype=np.int64) for of in (reference, candidate)]

    def of_channel(c: int) -> float:
        totals = [of[:, c].sum(-1, keepdims=True) for of in sums]
        if not all(total.all() and total.size for total in totals):
            return float("nan")
        one, other = (of[:, c].cumsum(-1) / total for of, total in zip(sums, totals, strict=True))
        return float(np.abs(one - other).sum(-1).mean() * 2 * ENDS / BINS)

    return over_channels(of_channel, reference.shape[2])
