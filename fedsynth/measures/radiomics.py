"""A Fréchet distance of radiomic features by PyRadiomics, where it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedsynth.measures import About, Answer, Measure, MeasureInputs, Value
from fedsynth.measures._fine import over_channels, with_nan
from fedsynth.measures._statistics import beside_floor

if TYPE_CHECKING:
    from fedsynth.data.dataset import ImageSet

NEEDED = "needs PyRadiomics, at every site: pip install 'fedsynth[radiomics]'"
CLASSES = ("firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm")
WIDTH = 25.0  # of the bins in which values are counted, of 0 to 255: PyRadiomics' own


class Radiomics(Measure):
    """Fréchet distance of radiomic features, after the FRD of Konz et al. 2024, arXiv:2412.01496.

    The intensity and texture features of PyRadiomics (IBSI) of each whole image channel, standardised by the held-out
    images'. Other than there, no wavelet is applied, and covariances are taken as diagonal, which is the mean over the
    features of (difference of means)^2 + (difference of standard deviations)^2: with a hundred features and a few dozen
    images of a site, a full covariance would be noise. No number where PyRadiomics is not installed.
    """

    about: ClassVar = {
        "frd": About(
            "lower",
            "radiomic distance",
            "Fréchet distance between the radiomic features of held-out real and of synthetic images, standardised by"
            " the real ones, mean over features and image channels.",
        ),
    }
    independent = False
    needs = NEEDED

    def at_site(self, seen: MeasureInputs) -> Answer:
        counts = {"real": len(seen.real[0]), "train": len(seen.real[1]), "synthetic": len(seen.synthetic)}
        if not installed():
            return Answer({"frd": Value(None, counts)})
        sets = (*seen.real, seen.synthetic)
        held_out, train, synthetic = (of_parts(seen, images) for images in sets)
        with np.errstate(all="ignore"):
            return Answer(
                beside_floor(seen, lambda a, b: {"frd": distance(a, b, held_out)}, held_out, train, synthetic, "frd")
            )


def of_parts(seen: MeasureInputs, images: ImageSet) -> np.ndarray:
    """As `radiomics`, of a set that may be on disk."""
    parts = [radiomics(with_nan(seen, part)) for part in images.parts()]
    width = max(part.shape[2] for part in parts)  # 1 of a part of which no image has any channel
    return np.concatenate([np.broadcast_to(part, (*part.shape[:2], width)) for part in parts])


def installed() -> bool:
    return find_spec("radiomics") is not None


def radiomics(images: np.ndarray) -> np.ndarray:
    """(N, I, F) features of each channel of images (N, I, *S) in [-1, 1], over all of its pixels; NaN without it."""
    import logging

    import SimpleITK
    from radiomics import featureextractor

    logging.getLogger("radiomics").setLevel(logging.ERROR)  # it says for each image what it does
    extractor = featureextractor.RadiomicsFeatureExtractor(binWidth=WIDTH, force2D=images.ndim == 4)
    extractor.disableAllFeatures()
    for kind in CLASSES:
        extractor.enableFeatureClassByName(kind)

    def of(plane: np.ndarray) -> list[float]:
        volume = (plane if plane.ndim == 3 else plane[None]) * 127.5 + 127.5
        border = [(0, 0) if size == 1 else (1, 1) for size in volume.shape]  # a mask needs something outside of it
        whole = SimpleITK.GetImageFromArray(np.pad(np.ones(volume.shape, np.uint8), border))
        found = extractor.execute(SimpleITK.GetImageFromArray(np.pad(volume, border)), whole)
        return [float(value) for name, value in found.items() if name.startswith("original_")]

    known = {
        (i, c): of(images[i, c]) for i, c in np.argwhere(np.isfinite(images).reshape(*images.shape[:2], -1).all(2))
    }
    out = np.full((*images.shape[:2], max(map(len, known.values()), default=1)), np.nan)
    for (i, c), values in known.items():
        out[i, c] = values
    return out


def distance(reference: np.ndarray, candidate: np.ndarray, unit: np.ndarray) -> float:
    """The distance of features (N, I, F) and (N', I, F) in spreads of `unit`; NaN for fewer than two images.

    Features that are constant in `unit` do not count.
    """

    def of_channel(c: int) -> float:
        a, b, whole = (of[np.isfinite(of[:, c]).all(1), c] for of in (reference, candidate, unit))
        if min(len(a), len(b), len(whole)) < 2:
            return float("nan")
        spread = whole.std(0)
        vary = spread > 1e-9 * (1 + np.abs(whole.mean(0)))
        if not vary.any():
            return float("nan")
        means, deviations = ((getattr(a, f)(0) - getattr(b, f)(0))[vary] / spread[vary] for f in ("mean", "std"))
        return float(np.mean(means**2 + deviations**2))

    return over_channels(of_channel, reference.shape[1])
