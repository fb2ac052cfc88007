"""Copies: synthetic images nearer to a training image than real images of other patients are by chance."""

from __future__ import annotations

import math

import numpy as np

from fedsynth.measures import About, Answer, Measure, MeasureInputs, Value, mean
from fedsynth.measures._neighbours import Pair, by_subject, distances, relative, spaces, write
from fedsynth.measures._statistics import bootstrap

LEAST = 5  # patients in either set, below which there is no telling what is near
PAIRS = 5
FAR = 1e-4  # share of held-out images that would by chance lie as low as those that are left out

COUNT = (
    "Synthetic images that lie nearer to one of a site's training images, in {}, than chance brings an image of another"
    " patient in one of {:.0f} cases (as measured by the site's held-out images); the sum over the sites. The floor"
    " counts held-out images that do. The interval is exact for the number in other sets of as many images, drawn"
    " alike."
)
RATIO = (
    "Median over the synthetic images of the distance in {} to the nearest training patient over the mean distance to"
    " the {} nearest (or to all); the floor is the same of held-out images, and clearly below it the set lies too near"
    " to the training images."
)


class Copies(Measure):
    """`alpha`: how often, by chance, an image may be taken for a copy at one site; `neighbours`: k of the relative
    distance.

    Distances are to patients, that is to their nearest image: several images of one patient are no crowd in which a
    copy of one of them could hide.
    """

    independent = False  # the sites share the synthetic images, over which the intervals are

    def __init__(self, alpha: float = 1e-4, neighbours: int = 50):
        if not 0 < alpha < 0.5 or neighbours < 2:
            raise ValueError(f"alpha must be in (0, 0.5) and neighbours at least 2, not {alpha} and {neighbours}")
        self.alpha, self.neighbours = alpha, neighbours

    @property
    def about(self) -> dict[str, About]:
        return {
            "copies_pixel": About("lower", "Copies (pixels)", COUNT.format("pixels", 1 / self.alpha)),
            "copies_feature": About("lower", "Copies (features)", COUNT.format("features", 1 / self.alpha)),
            "nearest_ratio_pixel": About("higher", "Nearest ratio (pixels)", RATIO.format("pixels", self.neighbours)),
            "nearest_ratio_feature": About(
                "higher", "Nearest ratio (features)", RATIO.format("features", self.neighbours)
            ),
        }

    def at_site(self, seen: MeasureInputs) -> Answer:
        held_out, train = seen.real
        n = {"real": len(held_out), "train": len(train), "synthetic": len(seen.synthetic)}
        values = {name: Value(None, n) for name in self.about}
        if min(len(set(images.patients())) for images in seen.real) < LEAST or not len(seen.synthetic):
            return Answer(values)
        pairs = {}
        for space, points in spaces(seen).items():
            table, chance = distances(seen, points, [seen.synthetic, held_out], train)
            s, real = (relative(by_subject(t, train.patients()), self.neighbours) for t in (table, chance))
            if np.isnan(real).any() or np.isnan(s).any():  # images that cannot be told apart
                continue
            limit = threshold(real, len(set(held_out.patients())), self.alpha)
            values[f"copies_{space}"] = counted(float((s < limit).sum()), n, float((real < limit).sum()))
            values[f"nearest_ratio_{space}"] = bootstrap(
                seen, np.median, s, purpose=f"copies {space}", n=n, floor=float(np.median(real))
            )
            pairs[space] = [
                Pair(int(i), int(table[i].argmin()), float(s[i]), limit) for i in np.argsort(s, kind="stable")[:PAIRS]
            ]
        if seen.keep is not None:
            write(seen.keep, seen, pairs)
        return Answer(values)

    def combine(self, answers: dict[str, Answer], centre: MeasureInputs) -> dict[str, Value]:
        """A synthetic image may be a copy at one site only, so that copies add up; ratios are means."""
        return super().combine(answers, centre) | {
            name: total(answers, name) for name in self.about if name.startswith("copies")
        }


def total(answers: dict[str, Answer], name: str) -> Value:
    """The sum over the sites; None where one has none, without a floor where one's is not known: few real images do not
    leave a site.
    """
    values = {site: answer.values[name] for site, answer in answers.items()}
    counts = mean(values).n
    copies = [v.value for v in values.values() if v.value is not None]
    floors = [v.floor for v in values.values() if v.floor is not None]
    if not values or len(copies) < len(values):
        return Value(None, counts)
    return counted(float(sum(copies)), counts, float(sum(floors)) if len(floors) == len(values) else None)


def counted(copies: float, n: dict[str, int], floor: float | None) -> Value:
    """A number of copies with the exact interval of a Poisson distribution's mean (Garwood 1936), not above the number
    of images.
    """
    from scipy.stats import chi2

    low = float(chi2.ppf(0.025, 2 * copies)) / 2 if copies else 0.0
    high = float(chi2.ppf(0.975, 2 * copies + 2)) / 2
    return Value(copies, n, floor, low, max(copies, min(high, float(n["synthetic"]))))


def threshold(real: np.ndarray, patients: int, alpha: float) -> float:
    """The relative distance below which a real image of another patient lies in a share `alpha` of cases, from s (N,)
    of held-out images.

    Distances to a nearest point follow Weibull's law (the extreme value of distances bounded by 0), so that log s is
    that of a smallest extreme: its lower tail is far heavier than a normal one's, and with few dimensions, as in
    features, that decides. The bound is mean + z(alpha) sd of log s, z of the standardised law, made lower for few
    `patients` n as a normal prediction bound would be: by t_{n-1}(alpha) / t_inf(alpha) sqrt(1 + 1/n) (Geisser 1993,
    example 2.2), so that the smallest of a few is not taken for a law; docs/privacy.md has the rates of false alarms. A
    patient who is in both sets under two names would disarm the audit: values that far from the quartiles are left out;
    of the others none is below the threshold.
    """
    from scipy.stats import gumbel_l, norm, t

    logs = np.log(np.clip(real, 1e-9, 1))
    low, middle, high = np.percentile(logs, [25, 50, 75])
    more = float(t.ppf(alpha, patients - 1) / norm.ppf(alpha)) * math.sqrt(1 + 1 / patients)
    start, centre, end, far = (float(gumbel_l.ppf(q)) for q in (0.25, 0.5, 0.75, min(alpha, FAR)))
    kept = logs[logs >= middle + more * (far - centre) * (high - low) / (end - start)]
    z = float((gumbel_l.ppf(alpha) - gumbel_l.mean()) / gumbel_l.std())
    return float(np.exp(min(kept.mean() + more * z * kept.std(ddof=1), kept.min())))
