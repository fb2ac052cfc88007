"""The synthetic images whose masks agree least with those that a network trained on real images predicts.

They are synthetic images only, so the pictures may be shown everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.data.stored import PART
from fedsynth.params import Image

if TYPE_CHECKING:
    from torch import nn

    from fedsynth.uses import Use


@dataclass(frozen=True)
class Failure:
    """A synthetic image (C, *S) with its own masks, the predicted masks (M, *S) bool, and their Dice."""

    image: np.ndarray
    label: str
    found: np.ndarray
    dice: float
    marked: int  # pixels of both masks together


def failures(
    synthetic: ImageSet, image: Image, networks: dict[str, tuple[Use, nn.Module]], n: int = 6
) -> list[Failure]:
    """Return the `n` images with the lowest Dice, lowest first; of equal Dice, the largest masks first.

    Empty without a segmentation network. The set is gone through in parts, and stays on disk where it is large.
    """
    from fedsynth.uses import of_kind
    from fedsynth.uses.segmentation import Segmentation

    network = of_kind(networks, Segmentation)
    usable = synthetic.where(synthetic.manifest["problem"] == "")
    if network is None or not image.masks:
        return []
    worst: list[Failure] = []
    for start in range(0, len(usable), PART):
        part = usable.at(np.arange(start, min(start + PART, len(usable))))
        found = sorted([*worst, *_of_part(part, image, network[1])], key=lambda of: (of.dice, -of.marked))
        # copies, so that not the whole part stays in memory
        worst = [replace(of, image=of.image.copy(), found=of.found.copy()) for of in found[:n]]
    return worst


def _of_part(part: ImageSet, image: Image, net: nn.Module) -> list[Failure]:
    import torch

    from fedsynth.uses import predict

    found = (predict(net, torch.tensor(part.channels(image, image.originals)), len(image.masks)) > 0).numpy()
    own = part.channels(image, image.masks) > 0
    marked = found.reshape(len(found), -1).sum(1) + own.reshape(len(own), -1).sum(1)
    columns = zip(part.images, part.manifest["label"], found, agreement(found, own), marked, strict=True)
    return [Failure(array, label, mask, float(dice), int(area)) for array, label, mask, dice, area in columns]


def agreement(found: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return the Dice (N,) of masks (N, M, *S) bool, mean over the channels; 1 if both are empty, 0 if one is."""
    import torch

    from fedsynth.networks.monai_imports import monai_imports

    with monai_imports():
        from monai.metrics.meandice import compute_dice
    a, b = (torch.from_numpy(np.ascontiguousarray(m)).float() for m in (found, own))
    mean: np.ndarray = compute_dice(a, b, ignore_empty=False).mean(1).numpy()
    return mean
