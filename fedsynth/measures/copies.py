"""Copies: synthetic images that are nearer to a training image than real images of other patients are by chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.measures import SHARE, About, Answer, Measure, MeasureInputs, Value, in_parts, mean
from fedsynth.measures._attack import by_subject as by_mean
from fedsynth.measures._neighbours import (
    QUERY,
    Features,
    Pair,
    Pixels,
    by_subject,
    distances,
    drawn,
    relative,
    some,
    write,
)
from fedsynth.measures._parts import Patches, Structure, shrunk, thumbnails
from fedsynth.measures._statistics import bootstrap

LEAST = 5  # smallest number of patients in either set for which copies are searched for
PAIRS, PART = 5, 16  # pairs that are shown in a space; images whose tables of patches are in memory at once
NOISE = 0.05  # standard deviation of the noise on the copies that the search must find
FAR = 1e-4  # held-out images as low as this quantile of the fitted law are left out as outliers

SPACES = {
    "pixel": "pixels",
    "feature": "features",
    "ssim": "structure (1 - SSIM)",
    "patch": "one of their patches, matched at any place",
}
COUNT = (
    "Synthetic images that lie nearer to one of a site's training images, in {}, than chance brings an image of another"
    " patient in one of {:.0f} cases (as measured by the site's held-out images, {} at most); the sum over the sites."
    " The floor counts held-out images that do. The interval is exact for the number in other sets of as many images,"
    " drawn alike."
)
RATIO = (
    "Median over the synthetic images of the distance in {} to the nearest training patient over the mean distance to"
    " the {} nearest (or to all); the floor is the same of held-out images, and clearly below it the set lies too near"
    " to the training images."
)
POWER = (
    "What this search would have found: the share of the site's training images (of {} at most) that count as copies by"
    " one of the ways above once they are drawn again with noise of {:g} (of values from -1 to 1), each beside the"
    " other patients' images. Below 90 % no copy is no proof of none."
)
# Search of images in memory and their features (N, F): their distances to the training images, relative to those nearby
# (N,), and the nearest training image (N,)
Found = tuple[np.ndarray, np.ndarray]
Search = Callable[[ImageSet, np.ndarray], Found]


class Copies(Measure):
    """Counts synthetic images that are likely copies of training images, at each site.

    Distances are to patients, that is to a patient's nearest image, so that several images of one patient do not hide a
    copy of one of them.

    Args:
        alpha: probability at which an image is taken for a copy at one site by chance.
        neighbours: k of the relative distance.
        most: largest number of held-out images that the bound on a copy is measured by, and of training images that are
            drawn again for `copy_power`; random ones if there are more. Every synthetic image is held against every
            training image, whatever their number.

    Raises ValueError if one of them is out of range.
    """

    independent = False  # the intervals are over the synthetic images, which the sites share
    audits_training = True

    def __init__(self, alpha: float = 1e-4, neighbours: int = 50, most: int = 1000):
        if not 0 < alpha < 0.5 or neighbours < 2 or most < LEAST:
            raise ValueError(
                f"alpha must be in (0, 0.5), neighbours at least 2 and most at least {LEAST}, not {alpha}, {neighbours}"
                f" and {most}"
            )
        self.alpha, self.neighbours, self.most = alpha, neighbours, most

    @property
    def about(self) -> dict[str, About]:
        found = {}
        for space, said in SPACES.items():
            text = COUNT.format(said, 1 / self.alpha, self.most)
            found[f"copies_{space}"] = About("lower", f"Copies ({space}s)", text, kind="count")
        for space, said in SPACES.items():
            title = f"Nearest ratio ({space}s)"
            found[f"nearest_ratio_{space}"] = About("higher", title, RATIO.format(said, self.neighbours))
        text = POWER.format(self.most, NOISE)
        return found | {"copy_power": About("higher", "Copies that would have been found", text, SHARE)}

    def at_site(self, seen: MeasureInputs) -> Answer:
        train = seen.real[1]
        shown, again = (some(images, self.most, seen, "copies") for images in seen.real)
        held_out, drawn_again = seen.real[0].where(shown), train.where(again)
        n = {"real": len(held_out), "train": len(train), "synthetic": len(seen.synthetic)}
        of_power = n | {"train": len(drawn_again)}
        values = {name: Value(None, of_power if name == "copy_power" else n) for name in self.about}
        if min(len(set(images.patients())) for images in (held_out, train)) < LEAST or not len(seen.synthetic):
            return Answer(values)
        searches = self.searches(seen)
        made = searched(searches, with_features(seen.synthetic, seen.features("synthetic")))
        real = searched(searches, with_features(held_out, seen.features("held_out")[shown]))
        copied = searched(searches, noisy(drawn_again, seen))
        pairs, found = {}, np.zeros(len(drawn_again), dtype=bool)
        for space in searches:
            (s, nearest), (of_real, _) = made[space], real[space]
            if np.isnan(of_real).any() or np.isnan(s).any():  # an image and its neighbours are identical
                continue
            limit = threshold(of_real, len(set(held_out.patients())), self.alpha)
            values[f"copies_{space}"] = counted(float((s < limit).sum()), n, float((of_real < limit).sum()))
            values[f"nearest_ratio_{space}"] = bootstrap(
                seen, np.median, s, purpose=f"copies {space}", n=n, floor=float(np.median(of_real))
            )
            found |= copied[space][0] < limit
            pairs[space] = [
                Pair(int(i), int(nearest[i]), float(s[i]), limit) for i in np.argsort(s, kind="stable")[:PAIRS]
            ]
        if pairs:
            of_patients = by_mean(found.astype(float), drawn_again.patients())
            values["copy_power"] = bootstrap(seen, np.mean, of_patients, purpose="copy power", n=of_power)
        if seen.keep is not None:
            write(seen.keep, seen, pairs)
        return Answer(values)

    def searches(self, seen: MeasureInputs) -> dict[str, Search]:
        """Returns the search by space. An image's distance by patches is that of its nearest patch."""
        train, k = seen.real[1], self.neighbours
        whose = train.patients()
        pixels, features = Pixels(seen, train), Features(seen, train, seen.features("train"))
        small = thumbnails((drawn(seen, part) for part in train.parts()), seen.flip)
        structure, patches = Structure(small), Patches(small)

        def of_table(table: np.ndarray) -> Found:
            return relative(by_subject(table, whose), k), table.argmin(1)

        def by_patch(images: ImageSet, _: np.ndarray) -> Found:
            squares = patches.squares(drawn(seen, images), seen.masks(images))
            parts = [of_patches(part.sqrt().double().numpy()) for part in squares.split(PART)]
            s, nearest = map(np.concatenate, zip(*parts, strict=True))
            return s, nearest

        def of_patches(tables: np.ndarray) -> Found:
            """Of distances (N, L, M) of each image's L patches."""
            flat = tables.reshape(-1, tables.shape[2])
            each = relative(by_subject(flat, whose), k).reshape(tables.shape[:2])
            each = np.nan_to_num(each, nan=1.0)  # a patch that all patients have, as the empty background
            least = each.argmin(1)[:, None]
            return each.min(1), np.take_along_axis(tables.argmin(2), least, 1)[:, 0]

        return {
            "pixel": lambda images, _: of_table(
                distances(drawn(seen, images).reshape(len(images), -1), pixels, whose, k)
            ),
            "feature": lambda _, of: of_table(distances(of, features, whose, k)),
            "ssim": lambda images, _: of_table(structure.distances(shrunk(drawn(seen, images)), whose, k)),
            "patch": by_patch,
        }

    def combine(self, answers: dict[str, Answer], centre: MeasureInputs) -> dict[str, Value]:
        """Returns the sites' sum for copies and their mean for ratios.

        An image may be a copy at one site only, so copies add up.
        """
        return super().combine(answers, centre) | {
            name: total(answers, name) for name in self.about if name.startswith("copies")
        }


def searched(searches: dict[str, Search], images: Iterable[tuple[ImageSet, np.ndarray]]) -> dict[str, Found]:
    """Returns what the searches find of all images, which come in parts with their features."""
    parts = [{space: search(*part) for space, search in searches.items()} for part in images]
    return {space: (np.concatenate([of[space][0] for of in parts]), np.concatenate([of[space][1] for of in parts]))
            for space in searches}  # fmt: skip


def with_features(images: ImageSet, features: np.ndarray) -> Iterator[tuple[ImageSet, np.ndarray]]:
    """Yields the parts of a set that are searched for at once, with their rows of `features` (N, F)."""
    start = 0
    for part in images.parts(len(images), QUERY):
        yield part, features[start : start + len(part)]
        start += len(part)


def noisy(train: ImageSet, seen: MeasureInputs) -> Iterator[tuple[ImageSet, np.ndarray]]:
    """Yields training images as a model might copy them, with noise of NOISE, in parts and with their features."""
    rng = seen.generator("copies that must be found")
    step = max(1, QUERY // (train.images.nbytes // len(train)))
    images = iter(train.images)  # one after the other: a part would be in memory twice
    for start in range(0, len(train), step):
        rows = train.manifest.iloc[start : start + step].reset_index(drop=True)
        again = np.empty((len(rows), *train.images.shape[1:]), np.float32)
        for place, image in enumerate(islice(images, len(rows))):
            again[place] = np.clip(image + rng.normal(0, NOISE, image.shape), -1, 1)
        made = ImageSet(rows, again)
        yield made, in_parts(lambda few: seen.extractor.features(seen.pixels(few)), made)


def total(answers: dict[str, Answer], name: str) -> Value:
    """Returns the sum over the sites; None if one site has none.

    Without a floor if one site's floor is not known: counts of few real images do not leave a site.
    """
    values = {site: answer.values[name] for site, answer in answers.items()}
    counts = mean(values).n
    copies = [v.value for v in values.values() if v.value is not None]
    floors = [v.floor for v in values.values() if v.floor is not None]
    if not values or len(copies) < len(values):
        return Value(None, counts)
    return counted(float(sum(copies)), counts, float(sum(floors)) if len(floors) == len(values) else None)


def counted(copies: float, n: dict[str, int], floor: float | None) -> Value:
    """Returns a number of copies with the exact interval of a Poisson mean (Garwood 1936).

    The upper end is at most the number of images.
    """
    from scipy.stats import chi2

    low = float(chi2.ppf(0.025, 2 * copies)) / 2 if copies else 0.0
    high = float(chi2.ppf(0.975, 2 * copies + 2)) / 2
    return Value(copies, n, floor, low, max(copies, min(high, float(n["synthetic"]))))


def threshold(real: np.ndarray, patients: int, alpha: float) -> float:
    """Returns the relative distance below which a real image of another patient lies with probability `alpha`.

    `real` (N,) are the relative distances s of held-out images of so many `patients`. Distances to a nearest point
    follow a Weibull distribution (the extreme value distribution of distances bounded by 0), so log s has a
    smallest-extreme-value distribution. Its lower tail is far heavier than a normal one, which matters in few
    dimensions, as in feature space. The bound is mean + z(alpha) sd of log s, with z of the standardised distribution.
    For few patients n it is lowered like a normal prediction bound, by t_{n-1}(alpha) / t_inf(alpha) sqrt(1 + 1/n)
    (Geisser 1993, example 2.2), so that the smallest of a few values does not determine it; docs/privacy.md has the
    false-alarm rates.

    A patient who is in both sets under two names would make the audit blind, so values that far below the quartiles are
    left out; none of the others is below the threshold.
    """
    from scipy.stats import gumbel_l, norm, t

    logs = np.log(np.clip(real, 1e-9, 1))
    low, middle, high = np.percentile(logs, [25, 50, 75])
    more = float(t.ppf(alpha, patients - 1) / norm.ppf(alpha)) * math.sqrt(1 + 1 / patients)
    start, centre, end, far = (float(gumbel_l.ppf(q)) for q in (0.25, 0.5, 0.75, min(alpha, FAR)))
    kept = logs[logs >= middle + more * (far - centre) * (high - low) / (end - start)]
    z = float((gumbel_l.ppf(alpha) - gumbel_l.mean()) / gumbel_l.std())
    return float(np.exp(min(kept.mean() + more * z * kept.std(ddof=1), kept.min())))
