"""Real-real floors and confidence intervals, by resampling patients and images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fedsynth.data.dataset import ImageSet
from fedsynth.measures import MeasureInputs, Value, Z

DRAWS = 20  # subsets over which a value and its floor are averaged
PARTS = 30  # random parts of both sets from which an interval is computed
KEPT = 0.75  # share of the patients and of the synthetic images in such a part
BLOCK = 1024  # rows of a table of all pairs that are in memory at once
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
    """Compare the synthetic set, and the training images as its floor, with the held-out images of a site.

    The value is the mean over DRAWS random subsets of the synthetic images (without replacement), the floor the same
    mean over subsets of `train`. All subsets have the class shares of `held_out` and the same size: most of these
    statistics depend on the number of images (FID is biased upwards by few), and all on the class mix, which differs
    between sites and from the synthetic set. The value is None if a class of `held_out` is missing in the synthetic
    set; there is no floor if one is missing in `train`, as at a hospital that has not seen it yet. The interval
    (`spread`) is for other patients and other synthetic images in the same numbers.

    Args:
        statistic: statistic(reference (N, F), candidate (N', F)) returns numbers by name, NaN where not defined.
        held_out, train, synthetic: the arrays that `statistic` takes.
        sets: the image sets of the arrays' rows, if these are not all images.
        within: range of a statistic by name, if not 0 to infinity.
    """
    sets = sets or (*seen.real, seen.synthetic)
    reference, *candidates = (images.labels(seen.image) for images in sets)
    quota = of_floor = matched(reference, *candidates)
    if not of_floor and len(train):  # a site that trains on nothing is no part of a measure
        quota = matched(reference, candidates[1])
    n = sum(quota.values())
    counts = {"real": len(held_out), "train": sum(of_floor.values()), "synthetic": n}
    rng = seen.generator(purpose)
    floors, values = (
        averaged(statistic, held_out, images, at_random(labels, fits, rng))
        for images, labels, fits in zip((train, synthetic), candidates, (of_floor, quota), strict=True)
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
    """Returns the standard deviation of a statistic of held-out and synthetic images by name.

    A delete-d jackknife (Shao & Wu 1989): the standard deviation over PARTS random parts, times sqrt(KEPT / (1 -
    KEPT)), where each part has a share KEPT of the patients and of the synthetic images of each class. NaN if the
    statistic is not defined on a part.

    It is not a bootstrap, which draws images twice: the distance of an image to its duplicate is 0, which KID and
    nearest neighbours take for similarity. Deviations are from the parts' own mean, because fewer images have another
    bias. It is too wide if both sets have the same distribution (FID of 17 images in 16 features: by a factor of 2),
    and 0 if the statistic is at the end of its range. With few patients it is uncertain itself, and is widened by
    Student's t quantile over the normal one.
    """
    whose = tuple(images.patients() for images in sets)
    found = []
    for _ in range(PARTS):
        a, b = (part(of, who, rng) for of, who in zip(labels, whose, strict=True))
        # in the class shares of the part, so that rounding does not change the class mix
        shares = {k: np.sum(labels[0][a] == k) / np.sum(labels[0] == k) for k in quota}
        fewer = {k: max(1, round(q * shares[k])) for k, q in quota.items() if shares[k]}
        found.append(averaged(statistic, arrays[0][a], arrays[1][b], in_turn(labels[1][b], fewer, rng)))
    wider = math.sqrt(KEPT / (1 - KEPT)) * student(len(np.unique(whose[0])))
    return {name: wider * float(np.std([f[name] for f in found], ddof=1)) for name in found[0]}


def student(n: int) -> float:
    """Returns by how much Student's t quantile of a 95 % interval of n observations is above the normal one; NaN for
    fewer than two."""
    from scipy.stats import t

    return float(t.ppf(0.975, n - 1)) / Z if n > 1 else math.nan


def part(labels: np.ndarray, subjects: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns (N,) bool: all images of a share KEPT of each class's patients, at least one patient per class.

    A patient's class is that of their first image.
    """
    names, first = np.unique(subjects, return_index=True)
    kept: list[str] = []
    for k in np.unique(labels[first]):
        there = names[labels[first] == k]
        kept += rng.permutation(there)[: max(1, int(KEPT * len(there) + rng.random()))].tolist()  # random rounding
    return np.isin(subjects, kept)


def averaged(
    statistic: Statistic, reference: np.ndarray, images: np.ndarray, draws: Iterable[np.ndarray]
) -> dict[str, float]:
    """Returns the mean of the statistic over draws of rows of `images`."""
    found = [statistic(reference, images[chosen]) for chosen in draws]
    return {name: float(np.mean([f[name] for f in found])) for name in found[0]}


def at_random(labels: np.ndarray, quota: dict[int, int], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield DRAWS random draws of indices, each without replacement.

    Only one if a draw is the whole set, because all draws would be the same.
    """
    for _ in range(DRAWS if len(labels) > sum(quota.values()) else 1):
        yield np.concatenate(
            [*(rng.choice(np.flatnonzero(labels == k), q, replace=False) for k, q in quota.items()), np.array([], int)]
        )


def in_turn(labels: np.ndarray, quota: dict[int, int], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield up to DRAWS draws in which every image of a class occurs about equally often.

    So the choice of images adds no randomness of its own.
    """
    decks = {k: rng.permutation(np.flatnonzero(labels == k)) for k in quota}
    for i in range(min(DRAWS, max(math.ceil(len(decks[k]) / q) for k, q in quota.items()))):
        yield np.concatenate([np.take(decks[k], range(i * q, (i + 1) * q), mode="wrap") for k, q in quota.items()])


def matched(reference: np.ndarray, *others: np.ndarray) -> dict[int, int]:
    """Returns how many images of each class to draw, in the class shares of the labels `reference` (N,).

    As many as all `others` allow; {} if a class is missing in one of them.
    """
    classes, counts = np.unique(reference, return_counts=True)
    there = np.array([[np.sum(labels == k) for k in classes] for labels in others])
    if not there.size or not there.all():
        return {}
    times = (there / counts).min()  # how often all of `reference` could be drawn
    return {int(k): max(1, int(times * c + 1e-9)) for k, c in zip(classes, counts, strict=True)}


def blocks(n: int) -> Iterator[slice]:
    """Yields n rows in blocks, for tables of all pairs that would not fit in memory."""
    return (slice(start, start + BLOCK) for start in range(0, n, BLOCK))


def around(
    value: float,
    sd: float | None,
    n: dict[str, int],
    floor: float | None,
    within: tuple[float, float] = (0.0, math.inf),
) -> Value:
    """Returns a value with a normal 95 % interval, clipped to its range.

    None if the value is not finite; without an interval if `sd` is not.
    """
    if not math.isfinite(value):
        return Value(None, n)
    floor = floor if floor is not None and math.isfinite(floor) else None
    if sd is None or not math.isfinite(sd):
        return Value(value, n, floor)
    return Value(value, n, floor, max(within[0], value - Z * sd), min(within[1], value + Z * sd))


def interval(
    replicates: np.ndarray, value: float, n: dict[str, int], floor: float | None = None, observed: float = math.inf
) -> Value:
    """Returns a value with the percentiles of its replicates as 95 % interval; None if it is not finite.

    Percentiles of a bootstrap of few observations are too near: they are those which widen a normal interval by
    Student's t and by sqrt(n / (n - 1)) (Hesterberg 2015, arXiv:1411.5279, section 3.3.2). `observed`: the size of the
    smallest sample that was resampled.
    """
    from scipy.stats import norm

    if not math.isfinite(value):
        return Value(None, n)
    known = replicates[np.isfinite(replicates)]
    wider = student(int(observed)) * math.sqrt(observed / (observed - 1)) if math.isfinite(observed) else 1.0
    tail = float(norm.cdf(-Z * wider))
    low, high = np.quantile(known, [tail, 1 - tail]) if len(known) else (None, None)
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
    """Returns `statistic(*samples)` with a percentile bootstrap interval (Efron 1979), see `interval`.

    The samples are of what is independent, patients or synthetic images. Each is resampled with replacement, apart from
    the others. There is no interval if a sample has size one: every resample would equal it.
    """
    rng = seen.generator(purpose)
    least = min(map(len, samples))
    if least < 2:
        times, least = 0, 2
    replicates = [statistic(*(s[rng.integers(0, len(s), len(s))] for s in samples)) for _ in range(times)]
    return interval(np.array(replicates), float(statistic(*samples)), n, floor, least)


def plain(value: Value) -> dict[str, Any]:
    """Returns the value as it is written to JSON: rounded, with None for missing numbers."""
    kept = {name: getattr(value, name) for name in ("value", "floor", "low", "high")}
    return {name: None if v is None else round(float(v), 6) for name, v in kept.items()} | {"n": dict(value.n)}
