"""Measures of a synthetic set against real images: computed inside each site, combined at the centre from numbers
alone.

A new measure is one file here and one block of params.yaml under `score.measures`. Legend: N images · I image channels
· M mask channels · F features · *S spatial size. Real images are never pooled: `at_site` sees one site's, `combine`
sees what sites have sent.

Three sets meet in a measure: `held_out`, the site's real images that no model was trained on (val and test), `train`,
its real training images, and `synthetic`. The *floor* of a measure is what it says of `train` in the place of
`synthetic`: real images against real images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
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

Z = 1.959964  # of a normal distribution's 95 % interval
Better = Literal["lower", "higher", "floor"]  # "floor": as near to the floor as can be, from either side


@dataclass(frozen=True)
class About:
    """What one number of a measure is, as the report says it: which way is better, and a definition in one sentence."""

    better: Better
    title: str
    text: str


@dataclass(frozen=True)
class Value:
    """A number with the counts of images that it rests on, the real-real floor and a 95 % interval; None is "could not
    be computed".
    """

    value: float | None
    n: dict[str, int] = field(default_factory=dict)
    floor: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Moments:
    """Mean (F,) and covariance (F, F) of n feature vectors; they leave a site only where n >= F
    (fedsynth/hospital/outgoing).
    """

    n: int
    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Moments:
        """Of features (N, F), the covariance with n - 1."""
        return cls(len(features), features.mean(0), np.atleast_2d(np.cov(features, rowvar=False)))


@dataclass(frozen=True)
class Answer:
    """What a measure gives at one site: numbers by name, and moments of "held_out" and "train" where the centre needs
    them.
    """

    values: dict[str, Value]
    moments: dict[str, Moments] = field(default_factory=dict)


@dataclass
class MeasureInputs:
    """What a measure may look at. At the centre `held_out` and `train` are None,
    and nothing of a real image is there.
    """

    image: Image
    synthetic: ImageSet
    extractor: Extractor
    # use -> its `federated` network, trained on real images
    networks: dict[str, tuple[Use, nn.Module]] = field(default_factory=dict)
    held_out: ImageSet | None = None
    train: ImageSet | None = None
    family: Family | None = None  # the released model
    flip: tuple[int, ...] = ()  # spatial axes along which it saw images mirrored
    seed: int = 0
    keep: Path | None = None  # a folder at the site for what stays there

    def __post_init__(self) -> None:
        self._features: dict[str, np.ndarray] = {}

    @cached_property
    def real(self) -> tuple[ImageSet, ImageSet]:
        """`held_out` and `train`. Raises ValueError at the centre."""
        if self.held_out is None or self.train is None:
            raise ValueError("there are no real images at the centre")
        return self.held_out, self.train

    def features(self, which: Literal["held_out", "train", "synthetic"]) -> np.ndarray:
        """(N, F) float64 of one of the sets; computed once."""
        if which not in self._features:
            self._features[which] = self.extractor.features(self.pixels(getattr(self, which)))
        return self._features[which]

    def pixels(self, images: ImageSet) -> np.ndarray:
        """(N, I, *S) float32: the image channels of a set, without its masks and derived channels."""
        return images.channels(self.image, self.image.originals)

    def masks(self, images: ImageSet) -> np.ndarray:
        """(N, M, *S) bool."""
        return images.channels(self.image, self.image.masks) > 0

    def generator(self, purpose: str) -> np.random.Generator:
        """Random numbers of one purpose: the same in every run."""
        return np.random.default_rng([self.seed, *purpose.encode()])


class Measure(ABC):
    """Constructor arguments are the measure's own settings, from params.yaml."""

    # whether its intervals are over each site's own images, not over the synthetic ones, which all sites share
    independent = True

    @property
    @abstractmethod
    def about(self) -> Mapping[str, About]:
        """By the name of each number: no other name leaves a site. A constant of the class, but where a text tells a
        setting.
        """

    @abstractmethod
    def at_site(self, seen: MeasureInputs) -> Answer:
        """The numbers of one site. A number that its images do not allow is a Value of None with its counts, not an
        error.
        """

    def combine(self, answers: dict[str, Answer], centre: MeasureInputs) -> dict[str, Value]:
        """One number for all sites: the mean of theirs, each by its real images `n["real"]`; None where one site has
        none.
        """
        return {
            name: mean({site: a.values[name] for site, a in answers.items()}, self.independent) for name in self.about
        }


def mean(values: dict[str, Value], independent: bool = True) -> Value:
    """The mean of the sites' values by n["real"], with its floor and interval.

    Where the sites' images are independent, the variance of the mean is the sum of w_k^2 times the sites' own. Where
    the synthetic set that they share varies too, they may all err to the same side, and the mean's interval is the mean
    of theirs: the widest that it can be.
    """
    counts = {
        kind: sum(v.n.get(kind, 0) for v in values.values())
        for kind in dict.fromkeys(k for v in values.values() for k in v.n)
    }
    if "synthetic" in counts:  # each site saw the same synthetic images
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
    # a mean of shares is no less than the least of them: the sites' own ends bound it
    return Value(
        value, counts, floor, max(value - Z * spread, float(ends.min())), min(value + Z * spread, float(ends.max()))
    )
