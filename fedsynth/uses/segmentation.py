"""Downstream use: find the mask channels of an image from its image channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsynth.supervised import Budget, train
from fedsynth.uses import Use, predict


class Segmentation(Use):
    """A small U-Net with GroupNorm, Dice and cross-entropy; the target is where a mask channel is above 0.

    `images`, `masks`: channels I and M; `size`: *S. `steps`, `batch`, `lr`: the budget, the same for every row; `width`: channels at
    full resolution, a multiple of 4.
    Raises ValueError without a mask channel: take the use out of `score.uses` then.
    """

    headline = "dice"
    metrics = ("dice", "false_positive_rate")

    def __init__(self, images: int, masks: int, size: tuple[int, ...], steps: int = 200, batch: int = 16, lr: float = 5e-3, width: int = 8):
        if masks < 1:
            raise ValueError("segmentation needs a mask channel; name one in image.channels or take this use out of score.uses")
        self.images, self.masks, self.size = images, masks, size
        self.steps, self.batch, self.lr, self.width = steps, batch, lr, width

    def network(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Segmenter(len(self.size), self.images, self.masks, self.width)

    def fit(self, images: Tensor, masks: Tensor, y: Tensor, seed: int, weights: Tensor | None = None) -> nn.Module:
        from fedsynth.lean import monai_imports

        with monai_imports():
            from monai.losses.dice import DiceCELoss
        criterion = DiceCELoss(sigmoid=True, batch=True)  # over the batch, so that images without a lesion count, too

        def loss(logits: Tensor, target: Tensor, _: Tensor) -> Tensor:
            # One channel at a time: with several, DiceCELoss would take its cross-entropy over channels, and masks may overlap.
            one = (len(logits) * logits.shape[1], 1, *logits.shape[2:])
            return criterion(logits.reshape(one), (target > 0).float().reshape(one))

        return train(self.network(seed), loss, images, masks, y, Budget(self.steps, self.batch, self.lr), seed, weights)

    def score(self, net: nn.Module, images: Tensor, masks: Tensor, y: Tensor) -> tuple[dict[str, float], dict[str, int]]:
        """`dice`: mean over the images with a mask (in each, over its mask channels that are not empty); NaN where none has.
        `false_positive_rate`: share of the images without any mask in which something was found; NaN where all have one.

        Dice of an empty true mask is 0 for one false pixel and undefined for none. MONAI's DiceMetric leaves such images out by default,
        BraTS counts them as 0 or 1; Metrics Reloaded (Maier-Hein et al. 2024) asks to judge them as detection. So: left out, and a rate.
        """
        from fedsynth.lean import monai_imports

        with monai_imports():
            from monai.metrics.meandice import compute_dice
        found, true = predict(net, images, self.masks) > 0, masks > 0
        empty = ~true.flatten(1).any(1)
        lesion = int((~empty).sum())
        # A mask channel that is empty in an image with another mask is NaN, and left out of that image's mean.
        dice = compute_dice(found[~empty].float(), true[~empty].float(), ignore_empty=True).nanmean(1).mean() if lesion else torch.nan
        false = found[empty].flatten(1).any(1).double().mean()  # the mean of none is NaN
        metrics = {"dice": float(dice), "false_positive_rate": float(false)}
        return metrics, {"dice": lesion, "false_positive_rate": int(empty.sum())}


class Segmenter(nn.Module):
    """(B, I, *S) -> (B, M, *S) logits. Each image and channel is standardised first, so that a scanner's gain and offset do not matter.

    MONAI's DynUNet (nnU-Net's network) with GroupNorm and two halvings: it works at full resolution and its last layer has no norm.
    MONAI's UNet has an InstanceNorm there: with one mask channel it takes away the difference between a lesion and none (Dice 0).
    """

    def __init__(self, dimensions: int, images: int, masks: int, width: int):
        super().__init__()
        from fedsynth.lean import monai_imports

        with monai_imports():
            from monai.networks.layers.factories import Norm
            from monai.networks.nets.dynunet import DynUNet
        self.standardise = Norm[Norm.INSTANCE, dimensions](images)
        filters, strides, norm = [width, 2 * width, 4 * width], [1, 2, 2], ("group", {"num_groups": 4})
        self.unet = DynUNet(dimensions, images, masks, [3, 3, 3], strides, strides[1:], filters=filters, norm_name=norm)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        more = [-n % 4 for n in size]  # each size must halve twice
        padded = F.pad(self.standardise(x), [n for m in reversed(more) for n in (0, m)], mode="replicate")
        return self.unet(padded)[(..., *[slice(n) for n in size])]
