"""Sampling from a family for given channels, with data consistency, and baselines without a model.

Legend: B batch · C generated channels · G given channels · N images of a set · *S spatial size.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
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
    generator = torch.Generator().manual_seed(seed)
    made = [converted(family, image, part, generator) for part in batches(images)]
    return ImageSet(images.manifest, np.concatenate([part.images for part in made]))


def batches(images: ImageSet) -> Iterator[ImageSet]:
    """Yields the set in batches of BATCH, as `convert` draws them; a batch is in memory, and the set may be on disk."""
    return images.parts(BATCH, sys.maxsize)


def converted(family: Family, image: Image, images: ImageSet, generator: torch.Generator) -> ImageSet:
    """As `convert`, of one of the `batches` of a set, each with the generator that the one before has left."""
    if not len(images):
        return replaced(image, images, None)
    y, given = (torch.from_numpy(a) for a in (images.condition_labels(image), images.channels(image, image.given)))
    made = draw(family, image, y, given, generator).numpy()
    return replaced(image, images, made[:, [image.generated.index(c) for c in generated(image)]])


Means = dict[str, dict[int | None, np.ndarray]]  # by channel, then by label as the model is told it; None: of any


def baseline(image: Image, images: ImageSet, means: Means) -> ImageSet:
    """Returns the set with its generated image channels replaced by a baseline without a model.

    For a channel from which a given channel is derived, this is the operator's estimate; otherwise the mean of the
    training images (`means_of`), of the same label if the model is conditioned on it.
    """
    planes = [_estimate(image, images, channel, means) for channel in generated(image)]
    return replaced(image, images, np.stack(planes, axis=1) if planes else None)


def means_of(image: Image, train: ImageSet) -> Means:
    """Returns the mean images (*S) float32 of the generated channels, of each label and of all; -1 without any.

    The images are added in their order, and those that lack the channel are left out.
    """
    found: Means = {}
    for channel in generated(image):
        sums: dict[int | None, np.ndarray] = {None: np.zeros(image.size, np.float32)}
        n: dict[int | None, int] = {None: 0}
        for part in train.parts():
            planes, told = part.channels_or_nan(image, [channel])[:, 0], part.condition_labels(image)
            for plane, k in zip(planes, told.tolist(), strict=True):
                if not np.isnan(plane).any():
                    for of in (k, None):
                        sums[of] = sums.get(of, np.float32(0)) + plane
                        n[of] = n.get(of, 0) + 1
        found[channel] = {k: of / n[k] if n[k] else np.full(image.size, -1, np.float32) for k, of in sums.items()}
    return found


def _estimate(image: Image, images: ImageSet, channel: str, means: Means) -> np.ndarray:
    """Returns the baseline (N, *S) of one generated channel."""
    for name, of in image.derived.items():
        if of.of == channel:
            return operator(image, name).estimate(torch.from_numpy(images.channels(image, [name])[:, 0])).numpy()
    known = means[channel]
    planes = [known.get(k, known[None]) for k in images.condition_labels(image).tolist()]
    return np.stack(planes) if planes else np.zeros((0, *image.size), np.float32)


def replaced(image: Image, images: ImageSet, planes: np.ndarray | None) -> ImageSet:
    """Returns the set with `planes` (N, C, *S) as its generated image channels; unchanged for None."""
    whole = np.array(images.images, dtype=np.float32)
    if planes is not None:
        whole[:, image.index(generated(image))] = planes
    return ImageSet(images.manifest, whole)
