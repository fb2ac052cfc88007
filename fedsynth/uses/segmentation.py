"""Downstream use: segmentation of the mask channels."""

from __future__ import annotations

import math
import warnings
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsynth.data.stored import PART
from fedsynth.training.supervised import Budget
from fedsynth.uses import Table, Use, predict


class Segmentation(Use):
    """A small U-Net with GroupNorm, trained with Dice and cross-entropy; the target is where a mask channel is above 0.

    `images`, `masks`: numbers of channels I and M; `size`: *S; `label_names`: names of the classes, `empty_labels`:
    those without a mask. `steps`, `batch`, `lr`: the training budget; `width`: channels at full resolution, a multiple
    of 4. Raises ValueError if there is no mask channel; then take the use out of `score.uses`.

    Chance is a Dice of 0, that of an empty mask. A mask of the whole image reaches 2 a / (1 + a) where the true one has
    the share a of the image: .1 for 5 %. What share a site's masks have, it does not tell.
    """

    headline = "dice"
    lower = frozenset({"hd95", "false_positive_rate"})

    def __init__(
        self,
        images: int,
        masks: int,
        size: tuple[int, ...],
        label_names: tuple[str, ...] = (),
        empty_labels: tuple[str, ...] = (),
        steps: int = 200,
        batch: int = 16,
        lr: float = 5e-3,
        width: int = 8,
    ):
        if masks < 1:
            raise ValueError(
                "segmentation needs a mask channel; name one in image.channels or take this use out of score.uses"
            )
        self.images, self.masks, self.size, self.label_names, self.empty_labels = (
            images,
            masks,
            size,
            label_names,
            empty_labels,
        )
        self.steps, self.batch, self.lr, self.width = steps, batch, lr, width
        self.budget = Budget(steps, batch, lr)

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("dice", "hd95", "false_positive_rate", *(f"dice.{name}" for _, name in self._classes()))

    def within(self, metric: str) -> tuple[float, float]:
        return (0.0, math.hypot(*self.size)) if metric == "hd95" else (0.0, 1.0)

    def _classes(self) -> list[tuple[int, str]]:
        """Return index and name of the classes that may have a mask."""
        return [(k, name) for k, name in enumerate(self.label_names) if name not in self.empty_labels]

    def network(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Segmenter(len(self.size), self.images, self.masks, self.width)

    @cached_property
    def criterion(self) -> nn.Module:
        from fedsynth.networks.monai_imports import monai_imports

        with monai_imports():
            from monai.losses.dice import DiceCELoss
        return DiceCELoss(sigmoid=True, batch=True)  # Dice over the whole batch, so that images without a lesion count

    def loss(self, output: Tensor, masks: Tensor, y: Tensor) -> Tensor:
        # One channel at a time: with several, DiceCELoss computes the cross-entropy over channels, but masks may
        # overlap.
        one = (len(output) * output.shape[1], 1, *output.shape[2:])
        return self.criterion(output.reshape(one), (masks > 0).float().reshape(one))

    def usable(self, masks: Tensor) -> Tensor:
        """Return which images (N,) have no unknown mask."""
        return (masks != 0).flatten(2).any(2).all(1)

    def judge(self, net: nn.Module, images: Tensor, masks: Tensor, y: Tensor) -> Table:
        """Return the results of each image, arrays (N,).

        `dice`, `hd95`: NaN without a true mask; `found`: 1 if any mask was predicted; `empty`: whether nothing is
        marked in the true mask; `known`: whether it is known; `y`: the label.
        """
        found, true = predict(net, images, self.masks) > 0, masks > 0
        each = {"dice": overlap(found, true), "hd95": distance(found, true)}
        each |= {"found": found.flatten(1).any(1).double(), "empty": ~true.flatten(1).any(1), "y": y}
        each["known"] = self.usable(masks)
        return {name: values.numpy() for name, values in each.items()}

    def summarise(self, table: Table) -> tuple[dict[str, float], dict[str, int]]:
        """Return Dice, HD95 and the false-positive rate.

        - `dice`: mean over the images with a mask (in each image over its mask channels that are not empty); NaN if
          none has one.
        - `hd95`: 95th percentile of the distances between the outlines of predicted and true mask, in pixels, mean over
          the same images. An image with an empty prediction counts with its diagonal, the largest possible distance
          (Metrics Reloaded, Maier-Hein et al. 2024).
        - `false_positive_rate`: share of the images without any mask in which a mask was predicted; NaN if all have
          one.

        The Dice of an empty true mask is 0 for one false pixel and undefined for none. MONAI's DiceMetric ignores such
        images by default, BraTS counts them as 0 or 1; Metrics Reloaded recommends to evaluate them as detection. Here
        they are left out of Dice and give the false-positive rate.
        """
        known = table["known"]  # an image of an unknown mask counts for nothing
        empty, lesion = known & table["empty"], self.counted(table)
        metrics = {"dice": _mean(table["dice"][lesion]), "hd95": _mean(table["hd95"][lesion])}
        metrics["false_positive_rate"] = _mean(table["found"][empty])
        n = {"dice": int(lesion.sum()), "hd95": int(lesion.sum()), "false_positive_rate": int(empty.sum())}
        for k, name in self._classes():
            of = lesion & (table["y"] == k)
            metrics[f"dice.{name}"], n[f"dice.{name}"] = _mean(table["dice"][of]), int(of.sum())
        return metrics, n

    def counted(self, table: Table) -> np.ndarray:
        """Return which images (N,) have a mask that is known."""
        found: np.ndarray = table["known"] & ~table["empty"]
        return found


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def dice_of(net: nn.Module, images: Tensor, masks: Tensor) -> np.ndarray:
    """Return the Dice (N,) of the masks that a network finds in images (N, I, *S) with their own (N, M, *S)."""
    parts = zip(images.split(PART), masks.split(PART), strict=True)
    return torch.cat([overlap(predict(net, x, m.shape[1]) > 0, m > 0) for x, m in parts]).numpy()


def overlap(found: Tensor, true: Tensor) -> Tensor:
    """Return the Dice (N,) of masks (N, M, *S), mean over the channels with a true mask; NaN without one."""
    from fedsynth.networks.monai_imports import monai_imports

    with monai_imports():
        from monai.metrics.meandice import compute_dice
    if not len(true):
        return torch.zeros(0, dtype=torch.float64)
    return compute_dice(found.float(), true.float(), ignore_empty=True).double().nanmean(1)


def distance(found: Tensor, true: Tensor) -> Tensor:
    """Return the 95th percentile Hausdorff distance (N,) in pixels (Huttenlocher et al. 1993) of masks (N, M, *S).

    Mean over the channels with a true mask; NaN without one. A channel with an empty prediction counts with the image's
    diagonal.
    """
    from fedsynth.networks.monai_imports import monai_imports, with_scipy

    with monai_imports():
        from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    with_scipy("monai.metrics.utils")
    there, seen = true.flatten(2).any(2), found.flatten(2).any(2)
    out = torch.full(there.shape, math.nan, dtype=torch.float64)
    out[there & ~seen] = math.dist(true.shape[2:], [0] * (true.ndim - 2))
    if (both := there & seen).any():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # MONAI uses its own deprecated argument
            far = compute_hausdorff_distance(
                found[both][:, None].float(), true[both][:, None].float(), include_background=True, percentile=95
            )
        out[both] = far[:, 0].double()
    return out.nanmean(1)


class Segmenter(nn.Module):
    """A U-Net (B, I, *S) -> (B, M, *S) logits.

    Each image and channel is standardised first, so that a scanner's gain and offset do not matter. The network is
    MONAI's DynUNet (nnU-Net's network) with GroupNorm and two downsamplings: it works at full resolution, and its last
    layer has no norm. MONAI's UNet has an InstanceNorm there, which with one mask channel removes the difference
    between a lesion and none (Dice 0).
    """

    def __init__(self, dimensions: int, images: int, masks: int, width: int):
        super().__init__()
        from fedsynth.networks.monai_imports import monai_imports

        with monai_imports():
            from monai.networks.layers.factories import Norm
            from monai.networks.nets.dynunet import DynUNet
        self.standardise = Norm[Norm.INSTANCE, dimensions](images)
        filters, strides, norm = [width, 2 * width, 4 * width], [1, 2, 2], ("group", {"num_groups": 4})
        self.unet = DynUNet(dimensions, images, masks, [3, 3, 3], strides, strides[1:], filters=filters, norm_name=norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.unet(self._padded(x))[(..., *[slice(n) for n in x.shape[2:]])]

    def embed(self, x: Tensor) -> Tensor:
        """Return the spatial means of the coarsest level, (B, 4 `width`).

        They are the feature space where no use classifies images.
        """
        h = self.unet.input_block(self._padded(x))
        for down in self.unet.downsamples:
            h = down(h)
        return self.unet.bottleneck(h).flatten(2).mean(2)

    def _padded(self, x: Tensor) -> Tensor:
        more = [-n % 4 for n in x.shape[2:]]  # each size must be divisible by 4
        return F.pad(self.standardise(x), [n for m in reversed(more) for n in (0, m)], mode="replicate")
