"""Source: procedural brain-like phantoms with lesions, for trying and testing the pipeline without patients' images."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from fedsynth.data.anatomy import draw, grid, waves
from fedsynth.params import Image, ParamsError, Strict
from fedsynth.sources import Record, Source

CHANNELS = ("t1", "t2", "lesion")
KINDS = ("none", "infiltrating", "extra_axial")
FIELD_OF_VIEW_MM = 240.0


class Site(Strict):
    """A hospital: how many images, the share of each class in the order of `image.labels`, and its scanner."""

    images: int = Field(ge=0)
    mix: list[float] | None = None  # default: equal shares
    noise: float = Field(0.03, ge=0)  # sigma of the Rician noise, as a share of full scale
    bias: float = Field(0.2, ge=0)  # log-amplitude of the smooth multiplicative field, two standard deviations
    gamma: float = Field(1.0, gt=0)  # contrast: signal ** gamma
    gain: float = Field(1.0, gt=0)
    lacks: list[str] = Field(default_factory=list)  # channels that it does not take; image.may_lack must name them


class Phantom(Source):
    """Sites of phantoms in two modalities: `t1`, `t2` and the mask `lesion`; 2-D slices or 3-D volumes by `image.size`.

    Classes: `none`; `infiltrating`, irregular, dark on t1 and bright on t2, in a soft halo of oedema that the mask
    leaves out (its edge is nowhere); `extra_axial`, a round or lens-shaped mass on the brain's surface, bright on t1. A
    subject has 1 to 3 images: neighbouring cuts of one anatomy and lesion. `conspicuity`: each subject's lesion stands
    out from healthy tissue by a factor between these two; the lower, the harder to find. The images of a site depend on
    `seed`, its name and its own entry in `sites` alone.
    """

    def __init__(self, image: Image, seed: int, sites: dict[str, dict[str, Any]],
                 conspicuity: tuple[float, float] = (1.0, 1.0)):  # fmt: skip
        if not 0 <= conspicuity[0] <= conspicuity[1] <= 1:
            raise ParamsError(
                f"source.args.conspicuity: two numbers from 0 to 1, the lower first, not {list(conspicuity)}"
            )
        if unknown := [c for c in image.channels if c not in CHANNELS]:
            raise ParamsError(f"phantoms have no channel {unknown[0]!r}: image.channels may name {', '.join(CHANNELS)}")
        if unknown := [name for name in image.labels if name not in KINDS]:
            raise ParamsError(f"phantoms have no class {unknown[0]!r}: image.labels may name {', '.join(KINDS)}")
        self.image, self.seed, self.conspicuity = image, seed, conspicuity
        self._sites = {name: _site(name, entry, image) for name, entry in sites.items()}

    def sites(self) -> list[str]:
        return list(self._sites)

    def records(self, site: str) -> Iterator[Record]:
        spec, place = self._sites[site], [self.seed, zlib.crc32(site.encode())]
        size = tuple(self.image.size)
        number = 0
        for subject, (label, cuts) in enumerate(_subjects(spec, self.image.labels, np.random.default_rng(place))):
            conspicuity = np.random.default_rng([*place, subject, 2**31]).uniform(*self.conspicuity)
            for cut in range(cuts):
                # The subject's generator starts anew for each cut: the same anatomy, seen at another height.
                body, slice_ = np.random.default_rng([*place, subject]), np.random.default_rng([*place, subject, cut])
                clean, mask = draw(label, size, body, slice_, conspicuity)
                scanned = scan(clean, spec, np.random.default_rng([*place, subject, cut, 1]))
                planes = {"t1": scanned[0], "t2": scanned[1], "lesion": mask.astype(np.float32)}
                yield Record(
                    channels={c: planes[c] for c in self.image.channels if c not in spec.lacks},
                    label=label,
                    subject=f"{site}-{subject:04d}",
                    spacing_mm=(FIELD_OF_VIEW_MM / max(size),) * len(size),
                    file=f"{site}/{number:04d}",
                    mask_shape=size if "lesion" in self.image.channels else None,
                )
                number += 1


def _site(name: str, entry: dict[str, Any], image: Image) -> Site:
    try:
        site = Site.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        raise ParamsError(
            f"source.args.sites.{name}.{'.'.join(map(str, first['loc']))}: {first['msg']} ({first['input']!r})"
        ) from error
    if unknown := [c for c in site.lacks if c not in image.may_lack]:
        raise ParamsError(f"source.args.sites.{name}.lacks: image.may_lack does not name {unknown[0]!r}")
    if site.mix is None:
        return site.model_copy(update={"mix": [1.0] * len(image.labels)})
    if len(site.mix) != len(image.labels) or min(site.mix) < 0 or sum(site.mix) <= 0:
        raise ParamsError(
            f"source.args.sites.{name}.mix: one share for each of the labels {image.labels}, not {site.mix}"
        )
    return site


def shares(total: int, weights: list[float]) -> list[int]:
    """Whole numbers that add up to `total`, by largest remainder."""
    exact = total * np.asarray(weights, float) / sum(weights)
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    return counts.tolist()


def _subjects(spec: Site, labels: list[str], rng: np.random.Generator) -> list[tuple[str, int]]:
    """(label, number of images) of each subject, shuffled; every class has exactly its share of the images."""
    subjects = []
    for label, images in zip(labels, shares(spec.images, spec.mix or []), strict=True):
        left = images
        while left:
            cuts = min(left, int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15])))
            subjects.append((label, cuts))
            left -= cuts
    return [subjects[i] for i in rng.permutation(len(subjects))]


def scan(tissue: np.ndarray, site: Site, rng: np.random.Generator) -> np.ndarray:
    """The images (2, *S) float32 that a site's scanner makes of tissue (2, *S) in [0, 1]: contrast, bias field, Rician
    noise, gain.
    """
    points = grid(tissue.shape[1:])
    signal = tissue**site.gamma * np.exp(site.bias / 2 * waves(points, 3.0, rng, n=3))
    real, imaginary = rng.normal(0, site.noise, (2, *tissue.shape))
    return (1000 * site.gain * np.hypot(signal + real, imaginary)).astype(np.float32)
