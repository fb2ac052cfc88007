"""Measures of a synthetic set against real images, computed at each site and combined at the centre from numbers only.

A new measure is one file in this folder and one block of params.yaml under `score.measures`. Real images are never
pooled: `at_site` sees those of one site, `combine` only what the sites have sent.

Legend: N images · I image channels · M mask channels · F features · *S spatial size.

A measure uses three sets: `held_out`, the site's real images that no model was trained on (val and test), `train`, its
real training images, and `synthetic`. The *floor* of a measure is its value with `train` in place of `synthetic`: real
images against real images.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from torch import nn

    from fedsynth.data.dataset import ImageSet
    from fedsynth.families import Family
    from fedsynth.features import Extractor
    from fedsynth.params import Image
    from fedsynth.uses import Use

Z = 1.959964  # quantile of the normal distribution for a 95 % interval
Better = Literal["lower", "higher", "floor"]  # "floor": better the nearer to the floor, from either side
Kind = Literal["estimate", "count", "bound"]


@dataclass(frozen=True)
class About:
    """Description of one number of a measure for the report: which direction is better, and a definition.

    `within` is its range: a site's answer beyond it is refused. `kind`: an "estimate" has an interval; a "count" is of
    synthetic images; a "bound" holds with a stated confidence and has no interval of its own.
    """

    better: Better
    title: str
    text: str
    within: tuple[float, float] = (0.0, math.inf)
    kind: Kind = "estimate"


SHARE = (0.0, 1.0)  # the range of a share


@dataclass(frozen=True)
class Value:
    """A number with its image counts, real-real floor and 95 % interval; None means that it could not be computed."""

    value: float | None
    n: dict[str, int] = field(default_factory=dict)
    floor: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Moments:
    """Mean (F,) and covariance (F, F) of n feature vectors.

    They leave a site only if n >= F (fedsynth/hospital/outgoing).
    """

    n: int
    mean: np.ndarray
    covariance: np.ndarray
    independent: int | None = None  # as many independent images would vary as much as these of patients do

    @classmethod
    def of(cls, features: np.ndarray, patients: np.ndarray | None = None) -> Moments:
        """Compute the moments of features (N, F), with n - 1 in the covariance.

        `patients` (N,): whose image each is. The variance of the mean over them (by the sums of each patient's
        deviations) says how many independent images there are.
        """
        n, mean, covariance = len(features), features.mean(0), np.atleast_2d(np.cov(features, rowvar=False))
        if patients is None:
            return cls(n, mean, covariance)
        places = np.unique(patients, return_inverse=True)[1]
        sums = np.zeros((places.max(initial=0) + 1, features.shape[1]))
        np.add.at(sums, places, features - mean)
        of_mean = len(sums) / max(len(sums) - 1, 1) * float(np.square(sums).sum()) / n**2
        independent = float(np.trace(covariance)) / of_mean if of_mean > 0 else n
        return cls(n, mean, covariance, int(min(n, max(2, independent))))


@dataclass(frozen=True)
class Answer:
    """The result of a measure at one site.

    `values` are numbers by name; `moments` are those of "held_out" and "train" if the centre needs them.
    """

    values: dict[str, Value]
    moments: dict[str, Moments] = field(default_factory=dict)


@dataclass
class MeasureInputs:
    """The inputs of a measure. At the centre `held_out` and `train` are None: it has no real images."""

    image: Image
    synthetic: ImageSet
    extractor: Extractor
    # by use, its `federated` network, trained on real images
    networks: dict[str, tuple[Use, nn.Module]] = field(default_factory=dict)
    held_out: ImageSet | None = None
    train: ImageSet | None = None
    family: Family | None = None  # the released model
    flip: tuple[int, ...] = ()  # spatial axes along which its training images were mirrored
    seed: int = 0
    # trains a model like the released one on images of the site, with a seed; None where there is no training here
    retrain: Callable[[ImageSet, int], Family] | None = None
    # marked images of the site's own making: those that the training had, those that it had not (hospital/canaries.py)
    canaries: tuple[ImageSet, ImageSet] | None = None
    keep: Path | None = None  # a folder at the site for files that stay there
    moments_noise: float = 0.0  # on moments that leave, in units of one image's influence: the site's policy

    def __post_init__(self) -> None:
        self._features: dict[str, np.ndarray] = {}

    @cached_property
    def real(self) -> tuple[ImageSet, ImageSet]:
        """Returns `held_out` and `train`. Raises ValueError at the centre."""
        if self.held_out is None or self.train is None:
            raise ValueError("there are no real images at the centre")
        return self.held_out, self.train

    def features(self, which: Literal["held_out", "train", "synthetic"]) -> np.ndarray:
        """Returns features (N, F) float64 of one of the sets; cached."""
        if which not in self._features:
            images: ImageSet = getattr(self, which)
            self._features[which] = in_parts(lambda part: self.extractor.features(self.pixels(part)), images)
        return self._features[which]

    def pixels(self, images: ImageSet) -> np.ndarray:
        """Returns the image channels (N, I, *S) float32 of a set, without masks and derived channels.

        They are in memory: of a set that may be large, ask for those of its parts (`in_parts`).
        """
        return images.channels(self.image, self.image.originals)

    def masks(self, images: ImageSet) -> np.ndarray:
        """Returns the masks (N, M, *S) bool of a set."""
        return images.channels(self.image, self.image.masks) > 0

    def generator(self, purpose: str) -> np.random.Generator:
        """Returns a random generator for one purpose, with the same numbers in every run."""
        return np.random.default_rng([self.seed, *purpose.encode()])


def in_parts(of: Callable[[ImageSet], np.ndarray], images: ImageSet) -> np.ndarray:
    """Returns `of(images)`, rows (N, ...) of images that do not depend on each other, computed part after part.

    So neither a set on disk nor what is made of it on the way is in memory as a whole.
    """
    out, start = None, 0
    for part in images.parts():
        rows = of(part)
        if out is None:
            out = np.empty((len(images), *rows.shape[1:]), rows.dtype)
        out[start : start + len(rows)] = rows
        start += len(rows)
    assert out is not None
    return out


class Measure(ABC):
    """A measure; constructor arguments are its settings from params.yaml."""

    pooled: frozenset[str] = frozenset()  # numbers of all sites together, which no site has
    # whether its intervals are over each site's own images and not over the synthetic ones, which all sites share
    independent = True
    needs = ""  # what every site needs beside its images, said where a number is missing: "needs PyRadiomics ..."
    audits_training = False  # whether it looks for traces of training images, and so is needed wherever there are some

    @property
    @abstractmethod
    def about(self) -> Mapping[str, About]:
        """Returns a description of each number by name; no number of another name leaves a site.

        A class constant, unless a description depends on a setting.
        """

    def lacks(self, image: Image, uses: Collection[Use]) -> dict[str, str]:
        """Returns the numbers that would be None at every site, with what the study lacks for them."""
        return {}

    @abstractmethod
    def at_site(self, seen: MeasureInputs) -> Answer:
        """Returns the numbers of one site.

        A number that cannot be computed from its images is a Value of None with its counts, not an error.
        """

    def combine(self, answers: dict[str, Answer], centre: MeasureInputs) -> dict[str, Value]:
        """Returns one number for all sites: the mean weighted by the real images `n["real"]`.

        None if one site has none.
        """
        return {
            name: mean({site: a.values[name] for site, a in answers.items()}, self.independent) for name in self.about
        }


def mean(values: dict[str, Value], independent: bool = True) -> Value:
    """Returns the mean of the sites' values weighted by n["real"], with its floor and interval.

    If the sites' images are independent, the variance of the mean is the sum of w_k^2 times the sites' variances. If
    the shared synthetic set varies too, all sites may err in the same direction; the interval is then the mean of the
    sites' intervals, the widest possible.
    """
    counts = {
        kind: sum(v.n.get(kind, 0) for v in values.values())
        for kind in dict.fromkeys(k for v in values.values() for k in v.n)
    }
    if "synthetic" in counts:  # all sites use the same synthetic images
        counts["synthetic"] = max(v.n.get("synthetic", 0) for v in values.values())
    if not values or any(v.value is None for v in values.values()) or not counts.get("real"):
        return Value(None, counts)
    weights = {site: v.n["real"] / counts["real"] for site, v in values.items()}
    value = sum(weights[site] * float(v.value) for site, v in values.items() if v.value is not None)
    floors = {site: v.floor for site, v in values.items() if v.floor is not None}
    floor = sum(weights[site] * f for site, f in floors.items()) if len(floors) == len(values) else None
    ends = np.array([(v.low, v.high) for v in values.values()], dtype=float)  # (sites, 2), NaN for None
    w = np.array([weights[site] for site in values])
    if np.isnan(ends).any():
        return Value(value, counts, floor)
    if not independent:
        return Value(value, counts, floor, *(w @ ends).tolist())
    spread = float(np.sqrt((w**2 * ((ends[:, 1] - ends[:, 0]) / (2 * Z)) ** 2).sum()))
    # the mean lies between the sites' values, so its interval lies between the ends of theirs
    return Value(
        value, counts, floor, max(value - Z * spread, float(ends.min())), min(value + Z * spread, float(ends.max()))
    )
