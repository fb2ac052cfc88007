"""Conversion and reconstruction: PSNR, SSIM and absolute error of generated channels, and the uses' scores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.measures import SHARE, About, Answer, Measure, MeasureInputs, Value
from fedsynth.measures._needs import a_mask, a_use
from fedsynth.measures._neighbours import by_patient
from fedsynth.measures._statistics import bootstrap
from fedsynth.training import sampling

KERNEL = 11  # window of SSIM in pixels; smaller for small images
SHARPEST = 1e-10  # smallest mean squared error in PSNR, which limits it to 100 dB
DECIBELS = (-100.0, 100.0)

BASE = (
    "the floor is the baseline, without a model: of a derived channel what its operator estimates, else the mean"
    " training image"
)
PAIR = (
    "between the real generated channels of a site's held-out images and what the model makes of their given ones,"
    " values from 0 to 1, "
)
USE = (
    "on held-out images whose generated channels are the {}; the floor is the same on the real images, which no"
    " conversion should surpass"
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from fedsynth.params import Image
    from fedsynth.uses import Use


class Conversion(Measure):
    """For models with given channels: conversion between modalities, reconstruction, images from masks.

    The synthetic set is not used: the model is applied to the site's held-out images, at the site. None without given
    channels. PSNR and SSIM (Wang et al. 2004, doi:10.1109/TIP.2003.819861) are MONAI's, per image and averaged over the
    images, with intervals by a bootstrap of the patients. The uses' networks are the `federated` ones.
    """

    def __init__(self, masks: int = 1, labels: int = 2):
        self.masks, self.labels = masks, labels

    @property
    def about(self) -> dict[str, About]:
        found = {
            "psnr": About(
                "higher", "PSNR", f"Peak signal-to-noise ratio in dB {PAIR}mean over the images; {BASE}.", DECIBELS
            ),
            "ssim": About("higher", "SSIM", f"Structural similarity {PAIR}mean over the images; {BASE}.", (-1.0, 1.0)),
            "mae": About("lower", "absolute error", f"Mean absolute error {PAIR}mean over the images; {BASE}."),
        }
        for name, title in self._uses().items():
            for images, what in (("converted", "model's"), ("baseline", "baseline's")):
                text = f"{title} of the network trained on real images, {USE.format(what)}."
                found[f"{images}_{name}"] = About("higher", f"{title}, {images} images", text, SHARE)
        return found

    def _uses(self) -> dict[str, str]:
        return ({"dice": "Dice"} if self.masks else {}) | ({"accuracy": "balanced accuracy"} if self.labels > 1 else {})

    def lacks(self, image: Image, uses: Collection[Use]) -> dict[str, str]:
        from fedsynth.uses.classification import Classification
        from fedsynth.uses.segmentation import Segmentation

        if not image.given:
            return dict.fromkeys(self.about, "needs a channel to convert, and image.given names none")
        if not sampling.generated(image):
            return dict.fromkeys(self.about, "needs an image channel that is generated, and all are given or aside")
        missing = {"dice": a_mask(image) or a_use(Segmentation, uses), "accuracy": a_use(Classification, uses)}
        return {n: missing[of] for n in self.about if (of := n.partition("_")[2]) in missing and missing[of]}

    def at_site(self, seen: MeasureInputs) -> Answer:
        real, train = seen.real
        values = {name: Value(None, {"real": len(real)}) for name in self.about}
        if (
            seen.family is None
            or not seen.image.given
            or not sampling.generated(seen.image)
            or not len(real)
            or not len(train)
        ):
            return Answer(values)
        near, without, judged = self._of_batches(seen, real, sampling.means_of(seen.image, train))
        for name, of in near.items():
            values[name] = over_patients(seen, np.mean, of, real, name, float(np.nanmean(without[name])))
        for name in self._uses():
            statistic, usable = STATISTICS[name][1:]
            beside, *others = (None if of is None or not usable(of) else of for of in judged[name])
            if beside is not None:
                floor = float(statistic(beside))
                for images, found in zip(("converted", "baseline"), others, strict=True):
                    values[f"{images}_{name}"] = over_patients(seen, statistic, found, real, name, floor)
        return Answer(values)

    def _of_batches(
        self, seen: MeasureInputs, real: ImageSet, means: sampling.Means
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, list[np.ndarray | None]]]:
        """Returns `nearness` of the model's and of the baseline's images, and by use what its network says of the real
        images, the model's and the baseline's; None where there is no network. Only a batch of images is in memory.
        """
        import torch

        assert seen.family is not None
        generator = torch.Generator().manual_seed(seen.seed)
        near: list[tuple[dict[str, np.ndarray], ...]] = []
        judged: dict[str, list[tuple[np.ndarray | None, ...]]] = {name: [] for name in self._uses()}
        for part in sampling.batches(real):
            made = sampling.converted(seen.family, seen.image, part, generator)
            base = sampling.baseline(seen.image, part, means)
            near.append((nearness(seen, part, made), nearness(seen, part, base)))
            for name, of in judged.items():
                of.append(tuple(STATISTICS[name][0](seen, images) for images in (part, made, base)))
        of_model, of_baseline = (
            {name: np.concatenate([of[name] for of in sides]) for name in sides[0]} for sides in zip(*near, strict=True)
        )
        return of_model, of_baseline, {name: list(map(_joined, zip(*of, strict=True))) for name, of in judged.items()}


def _joined(parts: tuple[np.ndarray | None, ...]) -> np.ndarray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if known else None


def nearness(seen: MeasureInputs, real: ImageSet, made: ImageSet) -> dict[str, np.ndarray]:
    """Returns psnr, ssim and mae, (N,) float64 each, over all generated image channels."""
    import torch

    from fedsynth.networks.monai_imports import monai_imports

    with monai_imports():
        from monai.metrics.regression import MAEMetric, PSNRMetric, SSIMMetric
    # Rescaled to [0, 1]: the luminance term of SSIM is defined for non-negative values.
    channels = sampling.generated(seen.image)
    # all values are NaN for an image that lacks a channel
    found = made.channels(seen.image, channels), real.channels_or_nan(seen.image, channels)
    x, y = (torch.from_numpy((array + 1) / 2).double() for array in found)
    size = min(x.shape[2:])
    ssim = SSIMMetric(x.ndim - 2, data_range=1.0, win_size=min(KERNEL, size - 1 + size % 2))
    psnr = PSNRMetric(max_val=1.0)(x, y).clamp(max=-10 * np.log10(SHARPEST))  # type: ignore[union-attr]
    each = torch.cat([ssim(a[None], b[None]) for a, b in zip(x, y, strict=True)])  # type: ignore[misc]
    of_each = {"psnr": psnr, "ssim": each, "mae": MAEMetric()(x, y)}
    return {name: of.flatten(1).mean(1).numpy() for name, of in of_each.items()}  # type: ignore[union-attr]


def over_patients(
    seen: MeasureInputs,
    statistic: Callable[[np.ndarray], float],
    values: np.ndarray | None,
    images: ImageSet,
    purpose: str,
    floor: float,
) -> Value:
    """Returns a statistic of values (N, ...) of the images with a bootstrap over patients; NaN rows are left out."""
    values = np.zeros(0) if values is None else values
    known = ~np.isnan(values).reshape(len(values), -1).any(1)
    n = {"real": int(known.sum())}
    if not n["real"]:
        return Value(None, n)
    groups = by_patient(values[known], images.patients()[known])
    return bootstrap(seen, partial(_of_groups, statistic), groups, purpose=f"conversion {purpose}", n=n, floor=floor)


def _of_groups(statistic: Callable[[np.ndarray], float], groups: np.ndarray) -> float:
    return float(statistic(np.concatenate(list(groups))))


def dice(seen: MeasureInputs, images: ImageSet) -> np.ndarray | None:
    """Returns (N,) Dice of the federated segmentation network, NaN for an image without a mask.

    None without a network or a mask channel.
    """
    from fedsynth.uses import of_kind
    from fedsynth.uses.segmentation import Segmentation, dice_of

    network = of_kind(seen.networks, Segmentation)
    if network is None or not seen.image.masks:
        return None
    pixels, masks, _ = images.tensors(seen.image)
    return dice_of(network[1], pixels, masks)


def _answers(seen: MeasureInputs, images: ImageSet) -> np.ndarray | None:
    from fedsynth.measures.class_agreement import answers

    return answers(seen, images)


def _accuracy(table: np.ndarray) -> float:
    from fedsynth.measures.class_agreement import accuracy

    return accuracy(table)


# what a network says of images, the number of it, and whether there is one of these images
STATISTICS: dict[
    str,
    tuple[
        Callable[[MeasureInputs, ImageSet], np.ndarray | None],
        Callable[[np.ndarray], float],
        Callable[[np.ndarray], bool],
    ],
] = {
    "dice": (dice, np.nanmean, lambda found: not np.isnan(found).all()),  # type: ignore[dict-item]
    "accuracy": (_answers, _accuracy, lambda found: not np.isnan(_accuracy(found))),
}
