"""Membership inference: whether training images can be told from held-out ones by the synthetic set or the weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.measures import SHARE, About, Answer, Measure, MeasureInputs, Value
from fedsynth.measures._neighbours import by_patient, distances, spaces
from fedsynth.measures._statistics import bootstrap

if TYPE_CHECKING:
    from fedsynth.families import Family

LEAST = 5  # fewest members and non-members for which the attacks are evaluated
REFERENCE = 5  # number of nearest real images of other patients that an image's distance is relative to

DISTANCE = (
    "An attacker who has the synthetic set and guesses from how near an image lies to it, for its surroundings, whether"
    " it was trained on: "
)
LOSS = "An attacker who has the released weights and guesses from their loss on an image whether it was trained on: "
AUC = "area under the ROC curve; the floor is chance, 0.5: that, and less, is guessing."
TPR = (
    "share of the training images that are found while at most {:.3g} % of the held-out ones are taken for such; the"
    " floor is chance, what guessing finds: that share, and more where held-out images are few."
)

# scores of the members and of the non-members; higher means more likely a member
Attack = tuple[np.ndarray, np.ndarray]
Statistic = Callable[[np.ndarray, np.ndarray], float]  # of an attack's scores


class Membership(Measure):
    """Membership inference attacks; members are the site's training images, non-members its held-out ones.

    Args:
        draws: noise samples per image for its loss.
        fpr: false-positive rate at which the true-positive rate is reported (Carlini et al. 2022, arXiv:2112.03570,
            section II.C).
        most: largest number of members and of non-members for the loss attack; a random subset if there are more.

    Raises ValueError if one of them is out of range.
    """

    audits_training = True

    def __init__(self, draws: int = 16, fpr: float = 0.01, most: int = 400):
        if draws < 1 or not 0 < fpr < 1 or most < LEAST:
            raise ValueError(
                f"draws must be positive, fpr in (0, 1) and most at least {LEAST}, not {draws}, {fpr} and {most}"
            )
        self.draws, self.fpr, self.most = draws, fpr, most

    @property
    def about(self) -> dict[str, About]:
        rate = TPR.format(100 * self.fpr)
        return {
            "membership_distance_auc": About("lower", "Membership by distance, AUC", DISTANCE + AUC, SHARE),
            "membership_distance_tpr": About("lower", "Membership by distance, TPR", DISTANCE + rate, SHARE),
            "membership_loss_auc": About("lower", "Membership by loss, AUC", LOSS + AUC, SHARE),
            "membership_loss_tpr": About("lower", "Membership by loss, TPR", LOSS + rate, SHARE),
        }

    def at_site(self, seen: MeasureInputs) -> Answer:
        non_members, members = seen.real
        enough = min(len(members), len(non_members)) >= LEAST
        scores = by_distance(seen) if enough and len(seen.synthetic) else None
        values = self._judge(seen, "distance", scores, members, non_members)
        members, non_members = (_some(images, self.most, seen) for images in (members, non_members))
        scores = by_loss(seen, members, non_members, self.draws) if enough and seen.family is not None else None
        return Answer(values | self._judge(seen, "loss", scores, members, non_members))

    def _judge(
        self, seen: MeasureInputs, attack: str, scores: Attack | None, members: ImageSet, non_members: ImageSet
    ) -> dict[str, Value]:
        """Returns AUC and TPR, with chance as floor and a bootstrap over patients, whose images are not independent."""
        names = f"membership_{attack}_auc", f"membership_{attack}_tpr"
        n = {
            "real": len(members) + len(non_members),
            "members": len(members),
            "non_members": len(non_members),
            "synthetic": len(seen.synthetic),
        }
        if scores is None or not all(np.isfinite(s).all() for s in scores):
            return {name: Value(None, n) for name in names}
        whose = (members.patients(), non_members.patients())
        groups = [by_patient(s, who) for s, who in zip(scores, whose, strict=True)]
        statistics: tuple[Statistic, ...] = auc, partial(tpr, fpr=self.fpr)
        judged = zip(names, statistics, (0.5, self.fpr), strict=True)
        return {
            name: bootstrap(seen, partial(_of_groups, of), *groups, purpose=name, n=n, floor=floor)
            for name, of, floor in judged
        }


def by_distance(seen: MeasureInputs) -> Attack:
    """Minus the pixel distance to the nearest synthetic image, relative to the nearest real images of other patients.

    The quotient corresponds to the density ratio of DOMIAS (van Breugel et al. 2023, arXiv:2302.12580, equation 2): an
    image in a dense region is near a synthetic one whether or not it was trained on. A real attacker has at best some
    other real images, so this attack is stronger. Pixels only: in every training that memorised, features revealed
    less, and the better of two attacks is above chance by chance.
    """
    pixel = spaces(seen)["pixel"]
    non_members, members = seen.real
    everyone = concatenate([members, non_members])
    (near,), (others,) = (distances(seen, pixel, [everyone], to) for to in (seen.synthetic, everyone))
    who = everyone.patients()
    others[who[:, None] == who[None]] = np.inf
    around = np.sort(others, axis=1)[:, :REFERENCE].mean(1)
    score = -near.min(1) / np.where(around > 0, around, np.nan)
    return score[: len(members)], score[len(members) :]


def by_loss(seen: MeasureInputs, members: ImageSet, non_members: ImageSet, draws: int) -> Attack | None:
    """Minus the family's loss (the LOSS attack: Yeom et al. 2018, arXiv:1709.01604) of the most revealing player.

    A player whose loss does not depend on the image (a GAN's generator) is left out; None if all are. Losses are
    compared within a class: they differ between classes, and the class shares of a small site's two sets differ.
    """
    found = []
    for player in attacked_players(seen.family):  # type: ignore[arg-type]
        a, b = (-losses(seen, images, player, draws) for images in (members, non_members))
        attack = within_class(a, b, members.labels(seen.image), non_members.labels(seen.image))
        if np.ptp(np.concatenate(attack)) > 0:
            found.append(attack)
    return max(found, key=lambda attack: auc(*attack), default=None)


def attacked_players(family: Family) -> list[str]:
    """Returns the players whose parameters were all released.

    Parameters that stayed at the sites have their initial values here, so their loss reveals nothing.
    """
    players, released = family.players(), family.released
    if released is None:
        return list(players)
    known = {p for name, p in family.named_parameters() if name in released or name in family.personal}
    return [name for name, net in players.items() if all(p in known for p in net.parameters())]


def losses(seen: MeasureInputs, images: ImageSet, player: str, draws: int) -> np.ndarray:
    """Returns (N,) float64: the player's loss of each image, averaged over `draws` of noise.

    The noise is the same for all images.
    """
    import torch

    from fedsynth.families import leave_out

    # some losses need the gradient with respect to x (R1)
    family: Family = copy.deepcopy(seen.family).eval().requires_grad_(False)  # type: ignore[union-attr,assignment]
    leave_out(family, images.lacking(seen.image))
    device = next(iter(seen.family.parameters())).device  # type: ignore[union-attr]
    image = seen.image
    x, given = (
        torch.from_numpy(images.channels_or_nan(image, names)).to(device) for names in (image.generated, image.given)
    )
    y, found = torch.tensor(images.condition_labels(image)).to(device), []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
        for i in range(len(images)):
            torch.manual_seed(seen.seed)
            several = [t[i : i + 1].expand(draws, *t.shape[1:]).contiguous() for t in (x, y, given)]
            found.append(
                float(family.loss(player, several[0], several[1], several[2] if image.given else None).detach())
            )
    return np.array(found, dtype=np.float64)


def within_class(a: np.ndarray, b: np.ndarray, class_a: np.ndarray, class_b: np.ndarray) -> Attack:
    """Subtract each class's centre from the scores.

    The centre is the mean of both sides' means, or the mean of the only side present.
    """
    a, b = a.copy(), b.copy()
    for k in np.union1d(class_a, class_b):
        sides = [part.mean() for part in (a[class_a == k], b[class_b == k]) if len(part)]
        a[class_a == k] -= np.mean(sides)
        b[class_b == k] -= np.mean(sides)
    return a, b


def auc(members: np.ndarray, non_members: np.ndarray) -> float:
    """Returns the probability that a member scores above a non-member, ties counted half.

    Computed from Mann and Whitney's U.
    """
    from scipy.stats import rankdata

    m, n = len(members), len(non_members)
    return float((rankdata(np.concatenate([members, non_members]))[:m].sum() - m * (m + 1) / 2) / (m * n))


def tpr(members: np.ndarray, non_members: np.ndarray, fpr: float) -> float:
    """Returns the share of members above the lowest score that at most a share `fpr` of the non-members exceeds.

    With fewer than 1 / fpr non-members, that is the highest score of a non-member.
    """
    allowed = int(fpr * len(non_members))
    return float((members > np.sort(non_members)[::-1][allowed]).mean())


def _of_groups(statistic: Statistic, members: np.ndarray, non_members: np.ndarray) -> float:
    """Returns the statistic of the scores of resampled patients, grouped by `by_patient`."""
    return statistic(np.concatenate(list(members)), np.concatenate(list(non_members)))


def _some(images: ImageSet, most: int, seen: MeasureInputs) -> ImageSet:
    if len(images) <= most:
        return images
    keep = np.zeros(len(images), dtype=bool)
    keep[seen.generator("membership").choice(len(images), most, replace=False)] = True
    return images.where(keep)
