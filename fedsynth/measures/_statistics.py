"""Real-real floors and confidence intervals, by resampling patients and images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fedsynth.data.dataset import ImageSet
from fedsynth.measures import MeasureInputs, Value, Z

DRAWS = 20  # subsets of a set, over which a value and its floor are means
PARTS = 30  # of both sets, that an interval rests on
KEPT = 0.75  # share of the patients and synthetic images in such a part
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
