"""Membership inference: whether training images can be told from held-out ones by the synthetic set or the weights."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, partial

import numpy as np

from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.measures import SHARE, About, Answer, Measure, MeasureInputs, Value, mean
from fedsynth.measures._attack import (
    Attack,
    auc,
    by_subject,
    epsilon_bound,
    strongest,
    tpr,
    within_class,
)
from fedsynth.measures._losses import attacked_players, losses
from fedsynth.measures._neighbours import QUERY, Features, Pixels, Points, distances, smallest, some
from fedsynth.measures._references import calibrated, references
from fedsynth.measures._statistics import bootstrap

LEAST = 5  # fewest patients among members and non-members for which the attacks are evaluated
SPACES = {"distance": "pixel", "feature": "feature"}
NEAREST = 5  # number of nearest real images of other patients that an image's distance is relative to

WHO = {
    "distance": "who has the synthetic set and guesses from how near an image is to it in pixels, for its surroundings",
    "feature": "who has the synthetic set and guesses the same from distances in the extractor's features",
    "loss": "who has the released weights and guesses from their loss on an image",
    "reference": (
        "who has the released weights and guesses from how much lower their loss on an image is than models foretell"
        " that were trained in the same way, inside the hospital, on half of the held-out patients each"
    ),
}
TITLES = {
    "distance": "by distance",
    "feature": "by distance in features",
    "loss": "by loss",
    "reference": "by loss, with reference models",
}
GUESSES = "An attacker {}, whether its patient was trained on (patients with several images by the mean): {}"
AUC = "area under the ROC curve; the floor is chance, 0.5: that, and less, is guessing."
TPR = (
    "share of the training patients that are found while at most {:.3g} % of the held-out ones are taken for such; the"
    " floor is chance, what guessing finds: that share, and more where held-out patients are few."
)
MOST = " It is asked of {} images of each kind at most."
STRONGEST = {
    "auc": (
        "AUC",
        "The largest AUC of all these attacks at the site, with the largest of their upper ends; the one with reference"
        " models counts where it was asked for. The largest of several is above 0.5 by chance alone: about .54 of three"
        " on 100 and 60 patients of whom nothing was learnt.",
    ),
    "tpr": ("TPR at {:.3g} % FPR", "The largest share that one of these attacks finds, in the same way."),
}
EPSILON = (
    "An epsilon that the training exceeds with 95 % confidence, at delta {:g}, as {}shows; the largest of the sites. It"
    " is to be held against a stated epsilon, which must not be below it; 0: none is shown, and of 100 patients on each"
    " side none above {:.1f} can be. Patients are taken for independent trials."
)
STEP = 0.1  # the bound on epsilon is rounded down to it: more digits would tell of how many patients it is


class Membership(Measure):
    """Membership inference attacks; members are the site's training patients, non-members its held-out ones.

    Args:
        draws: noise samples per image for its loss.
        fpr: false-positive rate at which the true-positive rate is reported, and a tenth of it (Carlini et al. 2022,
            arXiv:2112.03570, section II.C).
        most: largest number of members' and of non-members' images for the attacks by loss; a random subset if there
            are more.
        most_near: the same for the attacks by distance.
        references: reference models trained at each site for the attack with them; even, 0 for none. They cost about
            `references` / 2 times what the training costs at a site, for as many held-out images as training images.
        delta: of the lower bound on epsilon.

    Raises ValueError if one of them is out of range.
    """

    audits_training = True

    def __init__(
        self,
        draws: int = 16,
        fpr: float = 0.01,
        most: int = 400,
        references: int = 0,
        delta: float = 1e-5,
        most_near: int = 2000,
    ):
        if draws < 1 or not 0 < fpr < 1 or min(most, most_near) < LEAST:
            raise ValueError(
                f"draws must be positive, fpr in (0, 1), most and most_near at least {LEAST}, not {draws}, {fpr},"
                f" {most} and {most_near}"
            )
        if references < 0 or references % 2 or not 0 < delta < 1:
            raise ValueError(
                "references must be even, as each half of the held-out patients is trained on, and delta in (0, 1), not"
                f" {references} and {delta}"
            )
        self.draws, self.fpr, self.most, self.references, self.delta = draws, fpr, most, references, delta
        self.most_near = most_near

    @cached_property
    def about(self) -> dict[str, About]:  # type: ignore[override]
        found = {}
        some_of = {kind: MOST.format(self.most_near if kind in SPACES else self.most) for kind in self.kinds}
        for kind in self.kinds:
            said = {"auc": ("AUC", AUC)} | {
                name: (f"TPR at {100 * rate:.3g} % FPR", TPR.format(100 * rate)) for name, rate in self.rates.items()
            }
            for name, (what, text) in said.items():
                title = f"Membership {TITLES[kind]}, {what}"
                found[f"membership_{kind}_{name}"] = About(
                    "lower", title, GUESSES.format(WHO[kind], text + some_of[kind]), SHARE
                )
        for name, (what, text) in STRONGEST.items():
            title = f"Membership, strongest attack, {what.format(100 * self.fpr)}"
            found[f"membership_{name}"] = About("lower", title, text, SHARE)
        best = "the attack with reference models " if self.references else "the attack by loss (else by distance) "
        perfect = np.arange(100.0)
        text = EPSILON.format(self.delta, best, epsilon_bound(perfect + 100, perfect, self.delta))
        return found | {"membership_epsilon": About("lower", "Epsilon, lower bound by membership", text, kind="bound")}

    @property
    def kinds(self) -> list[str]:
        return [kind for kind in WHO if self.references or kind != "reference"]

    @property
    def rates(self) -> dict[str, float]:
        """Returns the false-positive rates by the name of the number."""
        return {"tpr": self.fpr, "tpr_tenth": self.fpr / 10}

    def at_site(self, seen: MeasureInputs) -> Answer:
        non_members, members = seen.real
        enough = min(len(set(images.patients())) for images in seen.real) >= LEAST
        few = tuple(images.where(some(images, self.most, seen, "membership")) for images in (members, non_members))
        near = tuple(some(images, self.most_near, seen, "membership near") for images in (members, non_members))
        looked_at = tuple(images.where(of) for images, of in zip((members, non_members), near, strict=True))
        found: dict[str, Attack | None] = dict.fromkeys(self.kinds)
        if enough and len(seen.synthetic):
            found |= {kind: by_distance(seen, space, *near) for kind, space in SPACES.items()}
        if enough and seen.family is not None:
            found |= by_loss(seen, few[0], few[1], self.draws, self.references)
        values: dict[str, Value] = {}
        judged: Attack | None = None
        for kind, scores in found.items():
            sets = few if kind in ("loss", "reference") else looked_at
            attack = _of_subjects(scores, sets)
            judged = attack or judged if kind != "feature" else judged
            values |= self._judge(seen, kind, attack, _counts(seen, sets))
        values |= {f"membership_{name}": self._strongest(values, name) for name in STRONGEST}
        tries = 1 if seen.family is None else len(attacked_players(seen.family))  # of which the strongest was taken
        bound = None if judged is None else STEP * (epsilon_bound(*judged, self.delta, tries) // STEP)
        return Answer(values | {"membership_epsilon": Value(bound, _counts(seen, few))})

    def _strongest(self, values: dict[str, Value], name: str) -> Value:
        """Returns the largest value of all attacks with the largest ends; none where one attack has none."""
        of = [values[f"membership_{kind}_{name}"] for kind in self.kinds]
        most = max(of, key=lambda value: -1.0 if value.value is None else value.value)
        if any(value.value is None for value in of):
            return Value(None, most.n)
        low, high = ([end for value in of if (end := getattr(value, side)) is not None] for side in ("low", "high"))
        return replace(most, low=max(low, default=None), high=max(high, default=None))

    def combine(self, answers: dict[str, Answer], centre: MeasureInputs) -> dict[str, Value]:
        """Returns the sites' means; of the bound on epsilon the largest, as of a stated epsilon."""
        return super().combine(answers, centre) | largest(answers, "membership_epsilon")

    def _judge(self, seen: MeasureInputs, kind: str, attack: Attack | None, n: dict[str, int]) -> dict[str, Value]:
        """Returns AUC and TPR, with chance as floor and a bootstrap over patients, whose images are not independent."""
        statistics = {"auc": (auc, 0.5)} | {name: (partial(tpr, fpr=rate), rate) for name, rate in self.rates.items()}
        found = {}
        for what, (statistic, floor) in statistics.items():
            name = f"membership_{kind}_{what}"
            found[name] = (
                Value(None, n)
                if attack is None
                else bootstrap(seen, statistic, *attack, purpose=name, n=n, floor=floor)
            )
        return found


def largest(answers: dict[str, Answer], name: str) -> dict[str, Value]:
    """Returns the largest of the sites' numbers under its name; None if one site has none."""
    values = [answer.values[name] for answer in answers.values()]
    known = [v.value for v in values if v.value is not None]
    n = mean({site: answer.values[name] for site, answer in answers.items()}).n
    return {name: Value(max(known) if known and len(known) == len(values) else None, n)}


def by_distance(seen: MeasureInputs, space: str, members: np.ndarray, non_members: np.ndarray) -> Attack:
    """Minus the distance to the nearest synthetic image, relative to the nearest real images of other patients.

    The quotient corresponds to the density ratio of DOMIAS (van Breugel et al. 2023, arXiv:2302.12580, equation 2): an
    image in a dense region is near a synthetic one whether or not it was trained on. A real attacker has at best some
    other real images, so this attack is stronger. `members`, `non_members`: (N,) bool, the training and the held-out
    images that are looked at.
    """
    held_out, train = seen.real
    everyone = concatenate([train.where(members), held_out.where(non_members)])
    made: Points
    real: Points
    if space == "pixel":
        real, made = Pixels(seen, everyone), Pixels(seen, seen.synthetic)
    else:
        known = np.concatenate([seen.features("train")[members], seen.features("held_out")[non_members]])
        real, made = Features(seen, everyone, known), Features(seen, seen.synthetic, seen.features("synthetic"))
    who, score = everyone.patients(), np.empty(len(everyone))
    each, each_made = np.arange(len(everyone)), np.arange(len(seen.synthetic))
    for rows, (points,) in real.blocks(QUERY, mirrored=False):
        nearest = distances(points, made, each_made, 1).min(1)
        others = distances(points, real, each, NEAREST, who[rows, None] == who[None])
        around = smallest(others, NEAREST).mean(1)
        score[rows] = -nearest / np.where(around > 0, around, np.nan)
    return score[: members.sum()], score[members.sum() :]


def by_loss(
    seen: MeasureInputs, members: ImageSet, non_members: ImageSet, draws: int, count: int = 0
) -> dict[str, Attack | None]:
    """Returns the attacks "loss" and, with `count` reference models, "reference", each by its most revealing player.

    "loss" is minus the family's loss (Yeom et al. 2018, arXiv:1709.01604), "reference" what `calibrated` says of it. A
    player whose loss does not depend on the image (a GAN's generator) is left out. Losses are compared within a class:
    they differ between classes, and the class shares of a small site's two sets differ.
    """
    family, sets = seen.family, (members, non_members)
    assert family is not None
    asked = {p: tuple(losses(seen, family, images, p, draws) for images in sets) for p in attacked_players(family)}
    asked = {p: of for p, of in asked.items() if np.ptp(np.concatenate(of), axis=0).max() > 0}
    classes = [images.labels(seen.image) for images in sets]
    centred = [within_class(-a.mean(1), -b.mean(1), *classes) for a, b in asked.values()]
    found: dict[str, Attack | None] = {"loss": strongest(centred)}
    if not count:
        return found
    if seen.retrain is None or not asked:
        return found | {"reference": None}
    totals = {p: [np.zeros((2, *part.shape)) for part in of] for p, of in asked.items()}  # of the model and foretold
    for model, judged in references(seen, count):
        places = [np.isin(images.patients(), judged) for images in sets]
        here = [of[at] for of, at in zip(classes, places, strict=True)]
        for p, total in totals.items():
            own = [part[at] for part, at in zip(asked[p], places, strict=True)]
            theirs = [losses(seen, model, s.where(at), p, draws) for s, at in zip(sets, places, strict=True)]
            both = within_class(*own, *here), within_class(*theirs, *here)  # around centres of the same images
            for part, at, *of in zip(total, places, *both, strict=True):
                part[:, at] += np.stack(of)
    return found | {"reference": strongest(_against(*total) for total in totals.values())}


def _against(members: np.ndarray, non_members: np.ndarray) -> Attack:
    """Returns the scores of sums (2, N, K) over reference models: of the model's losses, and of those foretold."""
    score = calibrated(*np.concatenate([members, non_members], axis=1))
    return score[: members.shape[1]], score[members.shape[1] :]


def _of_subjects(scores: Attack | None, sets: tuple[ImageSet, ...]) -> Attack | None:
    """Returns the scores of patients; None if they are not finite, as of a diverged model."""
    if scores is None or not all(np.isfinite(of).all() for of in scores):
        return None
    members, non_members = (by_subject(of, images.patients()) for of, images in zip(scores, sets, strict=True))
    return members, non_members


def _counts(seen: MeasureInputs, sets: tuple[ImageSet, ...]) -> dict[str, int]:
    members, non_members = map(len, sets)
    counts = {"real": members + non_members, "members": members, "non_members": non_members}
    return counts | {"synthetic": len(seen.synthetic)}
