"""Fine detail of images: the finest levels of a Laplacian pyramid, and averages over channels that images have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.measures import MeasureInputs

if TYPE_CHECKING:
    from fedsynth.data.dataset import ImageSet

BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16  # Burt & Adelson 1983


def with_nan(seen: MeasureInputs, images: ImageSet) -> np.ndarray:
    """Image channels (N, I, *S) without derived ones; NaN throughout where an image does not have the channel."""
    return images.channels_or_nan(seen.image, seen.image.originals)


def pyramid(images: np.ndarray, levels: int) -> list[np.ndarray]:
    """The `levels` finest high-pass parts of images (N, I, *S), each at half the resolution of the one before it.

    Fewer where an axis would become shorter than 4. A part is an image less its blurred copy, which is what the next
    one is made of: Burt & Adelson's pyramid without its interpolation.
    """
    found: list[np.ndarray] = []
    while len(found) < levels and (not found or min(images.shape[2:]) >= 4):
        smooth = blurred(images)
        found.append(images - smooth)
        half: tuple[Any, ...] = (..., *[slice(None, None, 2)] * (images.ndim - 2))
        images = smooth[half]
    return found


def blurred(images: np.ndarray) -> np.ndarray:
    from scipy.ndimage import correlate1d

    for axis in range(2, images.ndim):
        images = correlate1d(images, BINOMIAL, axis, mode="mirror")
    return images


def over_channels(of_channel: Callable[[int], float], channels: int) -> float:
    """The mean over the channels of which there is a value; NaN where there is none."""
    known = [value for c in range(channels) if np.isfinite(value := of_channel(c))]
    return float(np.mean(known)) if known else float("nan")
