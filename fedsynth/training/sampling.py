"""Sampling from a family for given channels, with data consistency, and baselines without a model.

Legend: B batch · C generated channels · G given channels · N images of a set · *S spatial size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fedsynth.data.dataset import ImageSet
from fedsynth.operators import consistent, operator
from fedsynth.params import Image

if TYPE_CHECKING:
    from fedsynth.families import Family

BATCH = 64


@torch.no_grad()
def draw(
    family: Family, image: Image, y: Tensor, given: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Sample images (B, C, *S), float32 in [-1, 1] on the CPU, consistent with the given channels.

    The labels y (B,) are passed to the family only if `image.tells_label`, else 0. Real images lie in [-1, 1] as well,
    so clipping never increases the error.
    """
    drawn = family.sample(y if image.tells_label else torch.zeros_like(y), given, generator).float().cpu().clamp(-1, 1)
    return drawn if given is None else consistent(image, drawn, given).clamp(-1, 1)


def generated(image: Image) -> list[str]:
    """Returns the image channels that a model generates."""
    return [c for c in image.originals if c in image.generated]


def convert(family: Family, image: Image, images: ImageSet, seed: int) -> ImageSet:
    """Returns the set with its generated image channels replaced by the model's output for its given channels.

    Masks are kept.
    """
    parts = [torch.from_numpy(a) for a in (images.condition_labels(image), images.channels(image, image.given))]
    generator = torch.Generator().manual_seed(seed)
    batches = zip(*(part.split(BATCH) for part in parts), strict=True)
    made = [draw(family, image, y, given, generator).numpy() for y, given in batches if len(y)]
    return replaced(
        image, images, np.concatenate(made)[:, [image.generated.index(c) for c in generated(image)]] if made else None
    )


def baseline(image: Image, images: ImageSet, train: ImageSet) -> ImageSet:
    """Returns the set with its generated image channels replaced by a baseline without a model.

    For a channel from which a given channel is derived, this is the operator's estimate; otherwise the mean of the
    training images, of the same label if the model is conditioned on it.
    """
    planes = [_estimate(image, images, channel, train) for channel in generated(image)]
    return replaced(image, images, np.stack(planes, axis=1) if planes else None)


def _estimate(image: Image, images: ImageSet, channel: str, train: ImageSet) -> np.ndarray:
    """Returns the baseline (N, *S) of one generated channel."""
    for name, of in image.derived.items():
        if of.of == channel:
            return operator(image, name).estimate(torch.from_numpy(images.channels(image, [name])[:, 0])).numpy()
    known, wanted = train.channels_or_nan(image, [channel])[:, 0], images.condition_labels(image)
    usable, told = ~np.isnan(known).reshape(len(known), -1).any(1), train.condition_labels(image)
    means = {}
    for k in np.unique(wanted).tolist():
        alike = usable & (told == k) if (usable & (told == k)).any() else usable
        means[k] = known[alike].mean(0) if alike.any() else np.full(image.size, -1, np.float32)
    return np.stack([means[int(k)] for k in wanted]) if len(wanted) else np.zeros((0, *image.size), np.float32)


def replaced(image: Image, images: ImageSet, planes: np.ndarray | None) -> ImageSet:
    """Returns the set with `planes` (N, C, *S) as its generated image channels; unchanged for None."""
    whole = np.array(images.images, dtype=np.float32)
    if planes is not None:
        whole[:, image.index(generated(image))] = planes
    return ImageSet(images.manifest, whole)
