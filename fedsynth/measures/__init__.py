"""What a synthetic set is beside real images: a measure is computed inside each site and combined at the centre from
numbers alone.

A new measure is one file here and one block of params.yaml under `score.measures`. Legend: N images · I image channels
· M mask channels · F features · *S spatial size. Real images are never pooled: `at_site` sees one site's, `combine`
sees what sites have sent.

Three sets meet in a measure: `held_out`, the site's real images that no model was trained on (val and test), `train`,
its real training images, and `synthetic`. The *floor* of a measure is what it says of `train` in the place of
`synthetic`: real images against real images.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from torch import nn

    from fedsynth.data.dataset import ImageSet
    from fedsynth.families import Family
    from fedsynth.features import Extractor
    from fedsynth.params import Image
    from fedsynth.uses import Use

Z = 1.959964  # of a normal distribution's 95 % interval
DRAWS = 20  # subsets of a set, over which a value and its floor are means
PARTS = 30  # of both sets, that an interval rests on
KEPT = 0.75  # share of the patients and synthetic images in such a part

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
    (fedsynth/hospital/outgoing.py).
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


Statistic = Callable[[np.ndarray, np.ndarray], dict[str, float]]


def beside_floor(
    seen: MeasureInputs,
    statistic: Statistic,
    held_out: np.ndarray,
    train: np.ndarray,
    synthetic: np.ndarray,
    purpose: str,
    sets: tuple[ImageSet, ImageSet, ImageSet] | None = None,
    within: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, Value]:
    """The synthetic set in the place of the site's training images: as many of each class, against the same held-out
    images.

    `statistic(reference (N, F), candidate (N', F))` by name, NaN where it is not defined. The value is the mean over
    DRAWS draws of synthetic images without replacement, the floor the same mean over draws of `train`. Both are drawn
    in the class shares of `held_out` and in the same number: most of these statistics depend on the number of images
    (FID is biased upwards by few), and all of them on the mix of classes, in which sites differ from each other and
    from the synthetic set. None where a class that is held out is missing in one of them. The interval (`spread`) is
    for other patients and other synthetic images in these numbers.

    `sets`: whose images the three arrays' rows are, where these are not all images. `within`: the ends of a statistic's
    range, if not 0 and infinity.
    """
    sets = sets or (*seen.real, seen.synthetic)
    reference, *candidates = (images.labels(seen.image) for images in sets)
    quota = matched(reference, *candidates)
    n = sum(quota.values())
    counts = {"real": len(held_out), "train": n, "synthetic": n}
    rng = seen.generator(purpose)
    floors, values = (
        averaged(statistic, held_out, images, at_random(labels, quota, rng))
        for images, labels in zip((train, synthetic), candidates, strict=True)
    )
    spreads = spread(statistic, (held_out, synthetic), sets[::2], (reference, candidates[1]), quota, rng) if n else {}
    ranges = dict.fromkeys(values, (0.0, math.inf)) | dict(within or {})
    return {name: around(v, spreads.get(name), counts, floors[name], ranges[name]) for name, v in values.items()}


def spread(
    statistic: Statistic,
    arrays: tuple[np.ndarray, np.ndarray],
    sets: tuple[ImageSet, ...],
    labels: tuple[np.ndarray, np.ndarray],
    quota: dict[int, int],
    rng: np.random.Generator,
) -> dict[str, float]:
    """The standard deviation of a statistic of held-out and synthetic images, NaN where it is not defined on a part of
    them.

    A delete-d jackknife (Shao & Wu 1989): sd of the statistic on PARTS random parts, times sqrt(KEPT / (1 - KEPT)),
    each part of a share KEPT of the patients and of the synthetic images of each class. Not a bootstrap, which draws
    images twice: an image is 0 from its double, which KID and nearest neighbours take for likeness. About its own mean:
    fewer images have another bias. It is too wide where both sets are of one distribution (FID of 17 images in 16
    features: by 2), and 0 where the statistic is at the end of its range.
    """
    whose = tuple(images.patients() for images in sets)
    found = []
    for _ in range(PARTS):
        a, b = (part(of, who, rng) for of, who in zip(labels, whose, strict=True))
        # in the shares of the part, so that the rounding of its numbers is no difference of the mix
        shares = {k: np.sum(labels[0][a] == k) / np.sum(labels[0] == k) for k in quota}
        fewer = {k: max(1, round(q * shares[k])) for k, q in quota.items() if shares[k]}
        found.append(averaged(statistic, arrays[0][a], arrays[1][b], in_turn(labels[1][b], fewer, rng)))
    return {name: math.sqrt(KEPT / (1 - KEPT)) * float(np.std([f[name] for f in found], ddof=1)) for name in found[0]}


def part(labels: np.ndarray, subjects: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N,) bool: all images of a share KEPT of each class's patients, at least one; a patient's class is that of their
    first image.
    """
    names, first = np.unique(subjects, return_index=True)
    kept: list[str] = []
    for k in np.unique(labels[first]):
        there = names[labels[first] == k]
        kept += rng.permutation(there)[: max(1, int(KEPT * len(there) + rng.random()))].tolist()  # up or down by chance
    return np.isin(subjects, kept)


def averaged(
    statistic: Statistic, reference: np.ndarray, images: np.ndarray, draws: Iterable[np.ndarray]
) -> dict[str, float]:
    """The statistic's mean over draws of rows of `images`."""
    found = [statistic(reference, images[chosen]) for chosen in draws]
    return {name: float(np.mean([f[name] for f in found])) for name in found[0]}


def at_random(labels: np.ndarray, quota: dict[int, int], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """DRAWS draws of places, each without replacement; one where it is the whole set,
    which is the same in every draw.
    """
    for _ in range(DRAWS if len(labels) > sum(quota.values()) else 1):
        yield np.concatenate(
            [*(rng.choice(np.flatnonzero(labels == k), q, replace=False) for k, q in quota.items()), np.array([], int)]
        )


def in_turn(labels: np.ndarray, quota: dict[int, int], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """So many draws, DRAWS at most, that every image of a class comes about equally often: their choice adds no chance
    of its own.
    """
    decks = {k: rng.permutation(np.flatnonzero(labels == k)) for k in quota}
    for i in range(min(DRAWS, max(math.ceil(len(decks[k]) / q) for k, q in quota.items()))):
        yield np.concatenate([np.take(decks[k], range(i * q, (i + 1) * q), mode="wrap") for k, q in quota.items()])


def matched(reference: np.ndarray, *others: np.ndarray) -> dict[int, int]:
    """How many of each class to draw: in the shares of the labels `reference` (N,), as many as all `others` allow; {}
    for none.
    """
    classes, counts = np.unique(reference, return_counts=True)
    there = np.array([[np.sum(labels == k) for k in classes] for labels in others])
    if not there.size or not there.all():
        return {}
    times = (there / counts).min()  # how often the whole of `reference` could be drawn
    return {int(k): max(1, int(times * c + 1e-9)) for k, c in zip(classes, counts, strict=True)}


def around(
    value: float,
    sd: float | None,
    n: dict[str, int],
    floor: float | None,
    within: tuple[float, float] = (0.0, math.inf),
) -> Value:
    """A value with a normal 95 % interval inside its range; None where it is not finite, without an interval where `sd`
    is not.
    """
    if not math.isfinite(value):
        return Value(None, n)
    floor = floor if floor is not None and math.isfinite(floor) else None
    if sd is None or not math.isfinite(sd):
        return Value(value, n, floor)
    return Value(value, n, floor, max(within[0], value - Z * sd), min(within[1], value + Z * sd))


def interval(replicates: np.ndarray, value: float, n: dict[str, int], floor: float | None = None) -> Value:
    """A value with the 2.5 and 97.5 percentiles of its replicates; None where it is not finite."""
    if not math.isfinite(value):
        return Value(None, n)
    known = replicates[np.isfinite(replicates)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (None, None)
    usable = floor is not None and math.isfinite(floor)
    ends = [None if v is None else float(v) for v in (low, high)]
    return Value(value, n, float(floor) if usable else None, *ends)  # type: ignore[arg-type]


def bootstrap(
    seen: MeasureInputs,
    statistic: Callable[..., float],
    *samples: np.ndarray,
    purpose: str,
    n: dict[str, int],
    floor: float | None = None,
    times: int = 300,
) -> Value:
    """`statistic(*samples)` with a percentile bootstrap (Efron 1979): each sample drawn anew with replacement,
    independently.

    Without an interval where a sample is of one: drawn anew it is always itself, and says nothing of chance.
    """
    rng = seen.generator(purpose)
    if min(map(len, samples)) < 2:
        times = 0
    replicates = [statistic(*(s[rng.integers(0, len(s), len(s))] for s in samples)) for _ in range(times)]
    return interval(np.array(replicates), float(statistic(*samples)), n, floor)


def plain(value: Value) -> dict[str, Any]:
    """As it is written to JSON: rounded, without what is not there."""
    kept = {name: getattr(value, name) for name in ("value", "floor", "low", "high")}
    return {name: None if v is None else round(float(v), 6) for name, v in kept.items()} | {"n": dict(value.n)}
