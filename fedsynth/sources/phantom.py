"""Source: procedural brain-like phantoms with lesions, for trying and testing the pipeline without patients' images."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from fedsynth.data.anatomy import draw, grid, waves
from fedsynth.params import Image, Strict
from fedsynth.params.near import near
from fedsynth.params.problems import ArgumentsError, Names, Problem, invalid, parsed
from fedsynth.sources import LISTED, Record, Source

if TYPE_CHECKING:
    import pandas as pd

CHANNELS = ("t1", "t2", "lesion")
KINDS = ("none", "infiltrating", "extra_axial")
FIELD_OF_VIEW_MM = 240.0


class Site(Strict):
    """A hospital: how many images, the share of each class in the order of `image.labels`, and its scanner.

    `train`: at least so many images of each class, or a list of one for each label in the order of `image.labels`, are
    for training, of as few subjects as may be, and all others for testing: a hospital with few patients that is
    measured exactly, or one that has not seen a class yet (0). Default: as `split` of the params file says.
    """

    images: int = Field(ge=0)
    train: Annotated[int, Field(ge=1)] | list[Annotated[int, Field(ge=0)]] | None = None
    mix: list[float] | None = Field(None, validate_default=True)  # default: equal shares
    noise: float = Field(0.03, ge=0)  # sigma of the Rician noise, as a share of full scale
    bias: float = Field(0.2, ge=0)  # log-amplitude of the smooth multiplicative field, two standard deviations
    gamma: float = Field(1.0, gt=0)  # contrast: signal ** gamma
    gain: float = Field(1.0, gt=0)
    lacks: Names = Field(default_factory=list)  # channels that it does not take; image.may_lack must name them

    @field_validator("mix")
    @classmethod
    def _of_labels(cls, mix: list[float] | None, info: ValidationInfo) -> list[float] | None:
        if info.context is None:
            return mix
        labels = info.context.labels
        if mix is not None and (len(mix) != len(labels) or min(mix) < 0 or sum(mix) <= 0):
            raise ValueError(f"must be one share for each of the labels {labels}, none below 0 and not all 0")
        return mix or [1.0] * len(labels)

    @field_validator("train")
    @classmethod
    def _of_each(cls, train: int | list[int] | None, info: ValidationInfo) -> int | list[int] | None:
        if isinstance(train, list) and info.context is not None and len(train) != len(info.context.labels):
            raise ValueError(f"must be one number, or one for each of the labels {info.context.labels}")
        return train

    @field_validator("lacks")
    @classmethod
    def _of_channels(cls, lacks: list[str], info: ValidationInfo) -> list[str]:
        may = info.context.may_lack if info.context else lacks
        said = f"image.may_lack does not name it: {may}"
        if wrong := [((n,), channel, said) for n, channel in enumerate(lacks) if channel not in may]:
            raise invalid("lacks", wrong)
        return lacks


class Cut(NamedTuple):
    """An image of a site: its number, whose it is, and which of the subject's cuts."""

    number: int
    subject: int
    cut: int
    label: str
    split: str


class Phantom(Source):
    """Sites of phantoms in two modalities: `t1`, `t2` and the mask `lesion`; 2-D slices or 3-D volumes by `image.size`.

    Classes: `none`; `infiltrating`, irregular, dark on t1 and bright on t2, in a soft halo of oedema that the mask
    leaves out (its edge is nowhere); `extra_axial`, a round or lens-shaped mass on the brain's surface, bright on t1. A
    subject has 1 to 3 images: neighbouring cuts of one anatomy and lesion. `conspicuity`: each subject's lesion stands
    out from healthy tissue by a factor between these two; the lower, the harder to find. The images of a site depend on
    `seed`, its name and its own entry in `sites` alone.
    """

    def __init__(self, image: Image, seed: int, sites: dict[str, Any],
                 conspicuity: tuple[float, float] = (1.0, 1.0)):  # fmt: skip
        made = {name: parsed(Site, entry, f"sites.{name}", image) for name, entry in sites.items()}
        wrong = [problem for _, found in made.values() for problem in found]
        if not 0 <= conspicuity[0] <= conspicuity[1] <= 1:
            said = "must be two numbers from 0 to 1, the lower first"
            wrong.append(Problem("conspicuity", list(conspicuity), said))
        for key, names, known in (("channels", image.channels, CHANNELS), ("labels", image.labels, KINDS)):
            said = f"phantoms have none of this name; they have {', '.join(known)}"
            wrong += [Problem(f"image.{key}", name, said + near(name, known)) for name in names if name not in known]
        if wrong:
            raise ArgumentsError(wrong)
        self.image, self.seed, self.conspicuity = image, seed, conspicuity
        self._sites = {name: site for name, (site, _) in made.items() if site is not None}

    def sites(self) -> list[str]:
        return list(self._sites)

    def listed(self) -> pd.DataFrame:
        import pandas as pd

        rows = [
            (site, f"{site}-{subject:04d}", label, split)
            for site in self._sites
            for subject, (label, cuts, split) in enumerate(self._patients(site))
            for _ in range(cuts)
        ]
        return pd.DataFrame(rows, columns=LISTED)

    def _patients(self, site: str) -> list[tuple[str, int, str]]:
        """Label, number of images and split of each subject of a site."""
        spec, labels = self._sites[site], self.image.labels
        subjects = _subjects(spec, labels, np.random.default_rng(self._place(site)))
        splits = _splits(subjects, _of_train(spec, labels))
        return [(label, cuts, split) for (label, cuts), split in zip(subjects, splits, strict=True)]

    def _place(self, site: str) -> list[int]:
        """The seed of a site's random numbers."""
        return [self.seed, zlib.crc32(site.encode())]

    def units(self, site: str) -> Sequence[Cut]:
        found: list[Cut] = []
        for subject, (label, cuts, split) in enumerate(self._patients(site)):
            found += [Cut(len(found) + cut, subject, cut, label, split) for cut in range(cuts)]
        return found

    def of_unit(self, site: str, unit: Cut) -> Iterator[Record]:
        spec, place, size = self._sites[site], [*self._place(site), unit.subject], tuple(self.image.size)
        conspicuity = np.random.default_rng([*place, 2**31]).uniform(*self.conspicuity)
        # The subject's generator starts anew for each cut: the same anatomy, seen at another height.
        body, slice_ = np.random.default_rng(place), np.random.default_rng([*place, unit.cut])
        clean, mask = draw(unit.label, size, body, slice_, conspicuity)
        scanned = scan(clean, spec, np.random.default_rng([*place, unit.cut, 1]))
        planes = {"t1": scanned[0], "t2": scanned[1], "lesion": mask.astype(np.float32)}
        yield Record(
            channels={c: planes[c] for c in self.image.channels if c not in spec.lacks},
            label=unit.label,
            subject=f"{site}-{unit.subject:04d}",
            split=unit.split,
            spacing_mm=(FIELD_OF_VIEW_MM / max(size),) * len(size),
            file=f"{site}/{unit.number:04d}",
            mask_shape=size if "lesion" in self.image.channels else None,
        )


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


def _of_train(spec: Site, labels: list[str]) -> dict[str, int] | None:
    """Training images of each label, or None where the site does not say."""
    if spec.train is None:
        return None
    return (
        dict(zip(labels, spec.train, strict=True))
        if isinstance(spec.train, list)
        else dict.fromkeys(labels, spec.train)
    )


def _splits(subjects: list[tuple[str, int]], train: dict[str, int] | None) -> list[str]:
    """The split of each subject: those of a class with the most images train until it has `train`, the others test.

    Without `train` none is named.
    """
    if train is None:
        return [""] * len(subjects)
    found, left = ["test"] * len(subjects), Counter(train)
    for place in sorted(range(len(subjects)), key=lambda i: -subjects[i][1]):
        label, cuts = subjects[place]
        if left[label] > 0:
            found[place] = "train"
            left[label] -= cuts
    return found


def scan(tissue: np.ndarray, site: Site, rng: np.random.Generator) -> np.ndarray:
    """The images (2, *S) float32 that a site's scanner makes of tissue (2, *S) in [0, 1]: contrast, bias field, Rician
    noise, gain.
    """
    points = grid(tissue.shape[1:])
    signal = tissue**site.gamma * np.exp(site.bias / 2 * waves(points, 3.0, rng, n=3))
    real, imaginary = rng.normal(0, site.noise, (2, *tissue.shape))
    return (1000 * site.gain * np.hypot(signal + real, imaginary)).astype(np.float32)
