"""The synthetic images whose masks agree least with those that a network trained on real images predicts.

They are synthetic images only, so the pictures may be shown everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedsynth.data.dataset import ImageSet
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


def failures(
    synthetic: ImageSet, image: Image, networks: dict[str, tuple[Use, nn.Module]], n: int = 6
) -> list[Failure]:
    """Return the `n` images with the lowest Dice, lowest first; of equal Dice, the largest masks first.

    Empty without a segmentation network.
    """
    from fedsynth.uses import of_kind, predict
    from fedsynth.uses.segmentation import Segmentation

    network = of_kind(networks, Segmentation)
    usable = synthetic.where(synthetic.manifest["problem"] == "")
    if network is None or not len(usable) or not image.masks:
        return []
    import torch

    found = (predict(network[1], torch.tensor(usable.channels(image, image.originals)), len(image.masks)) > 0).numpy()
    own = usable.channels(image, image.masks) > 0
    dice = agreement(found, own)
    order = np.lexsort((-(found.reshape(len(found), -1).sum(1) + own.reshape(len(own), -1).sum(1)), dice))[:n]
    labels = list(usable.manifest["label"])
    return [Failure(usable.images[i], labels[i], found[i], float(dice[i])) for i in order]


def agreement(found: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return the Dice (N,) of masks (N, M, *S) bool, mean over the channels; 1 if both are empty, 0 if one is."""
    import torch

    from fedsynth.networks.monai_imports import monai_imports

    with monai_imports():
        from monai.metrics.meandice import compute_dice
    a, b = (torch.from_numpy(np.ascontiguousarray(m)).float() for m in (found, own))
    mean: np.ndarray = compute_dice(a, b, ignore_empty=False).mean(1).numpy()
    return mean
