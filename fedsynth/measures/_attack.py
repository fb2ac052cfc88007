"""What an attack's scores say of a training set: by subject, within a class, as AUC, TPR and a bound on epsilon."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

CONFIDENCE = 0.95  # of the bound on epsilon
FALSE_ALARMS = (
    0.0,
    0.01,
    0.05,
    0.2,
)  # at which the bound looks, fixed beforehand, as each further one costs confidence
GUESSED = (1.0, 0.5, 0.25)  # shares of the canaries of which one guesses whether they were trained on

# scores of the members and of the non-members, one for each image or subject; higher means more likely a member
Attack = tuple[np.ndarray, np.ndarray]


def by_subject(scores: np.ndarray, whose: np.ndarray) -> np.ndarray:
    """Returns (S,) the mean score of each subject's images; `whose` (N,): the subject of each image.

    Whether a subject was in the training is one question, however many images there are of them.
    """
    _, places, counts = np.unique(whose, return_inverse=True, return_counts=True)
    return np.bincount(places, weights=scores) / counts


def within_class(a: np.ndarray, b: np.ndarray, class_a: np.ndarray, class_b: np.ndarray) -> Attack:
    """Subtract each class's centre from the scores (N, ...).

    The centre is the mean of both sides' means, or the mean of the only side present.
    """
    a, b = a.copy(), b.copy()
    for k in np.union1d(class_a, class_b):
        sides = [part.mean(0) for part in (a[class_a == k], b[class_b == k]) if len(part)]
        a[class_a == k] -= np.mean(sides, axis=0)
        b[class_b == k] -= np.mean(sides, axis=0)
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
    return float((members > limit(non_members, fpr)).mean())


def limit(non_members: np.ndarray, fpr: float) -> float:
    """Returns the lowest score that at most a share `fpr` of the non-members exceeds."""
    return float(np.sort(non_members)[::-1][int(fpr * len(non_members))])


def epsilon_bound(members: np.ndarray, non_members: np.ndarray, delta: float, tries: int = 1) -> float:
    """Returns an epsilon that the training exceeds with 95 % confidence, by the attack's scores; 0 if none is shown.

    An (epsilon, delta) private training allows no test with TPR > e^epsilon FPR + delta, nor one with TNR > e^epsilon
    FNR + delta (Kairouz et al. 2015, arXiv:1311.0776, theorem 2.1). The rates are bounded by Clopper and Pearson's
    intervals, as in Nasr et al. 2021, arXiv:2101.04535, and the confidence is shared by all tests, both rates and the
    `tries` attacks of which this is the strongest. With the threshold at a non-member's score the share of non-members
    above it has just that beta distribution.
    """
    bounds = [0.0]
    alpha = (1 - CONFIDENCE) / (4 * len(FALSE_ALARMS) * tries)
    for one, other in ((members, non_members), (-non_members, -members)):
        for fpr in FALSE_ALARMS:
            if int(fpr * len(other)) < len(other):
                bounds.append(_shown(one, other, fpr, delta, alpha))
    return max(bounds)


def _shown(found: np.ndarray, others: np.ndarray, fpr: float, delta: float, alpha: float) -> float:
    """Returns the epsilon that one test shows, each of its two rates with an error of `alpha`."""
    most = limit(others, fpr)
    hits, alarms = int((found > most).sum()), int((others > most).sum())
    low, high = clopper_pearson(hits, len(found), alpha)[0], clopper_pearson(alarms, len(others), alpha)[1]
    return float(np.log((low - delta) / high)) if low > delta else 0.0


def epsilon_of_guesses(inside: np.ndarray, outside: np.ndarray, delta: float, tries: int = 1) -> float:
    """Returns an epsilon that the training exceeds with 95 % confidence, where a coin was tossed for each image.

    Steinke et al. 2023, arXiv:2305.08846, theorem 5.2, which needs one training: the images of the highest scores are
    guessed to be inside, as many of the lowest outside, and so many guesses are not right by chance. The confidence is
    shared by the shares GUESSED and the `tries` attacks of which this is the strongest.
    """
    scores, truth = np.concatenate([inside, outside]), np.arange(len(inside) + len(outside)) < len(inside)
    order, m = np.argsort(-scores, kind="stable"), len(scores)
    bounds = [0.0]
    for share in GUESSED:
        k = max(1, int(share * m / 2))
        right = int(truth[order[:k]].sum() + (~truth[order[-k:]]).sum())
        bounds.append(_least_epsilon(m, 2 * k, right, delta, (1 - CONFIDENCE) / (len(GUESSED) * tries)))
    return max(bounds)


def _least_epsilon(m: int, guesses: int, right: int, delta: float, alpha: float) -> float:
    """Returns the largest epsilon, to a thousandth, whose p-value is below `alpha`."""
    low, high = 0.0, 20.0
    if by_chance(m, guesses, right, low, delta) >= alpha:
        return 0.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if by_chance(m, guesses, right, middle, delta) < alpha else (low, middle)
    return low


def by_chance(m: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Returns the probability that an (epsilon, delta) private training of m images lets so many guesses be right."""
    from scipy.stats import binom

    q = 1 / (1 + np.exp(-epsilon))
    i = np.arange(1, right + 1)
    worst = (binom.pmf(right - i, guesses, q).cumsum() / i).max(initial=0.0)
    return float(min(1.0, binom.sf(right - 1, guesses, q) + 2 * m * delta * worst))


def clopper_pearson(k: int, n: int, alpha: float) -> tuple[float, float]:
    """Returns the ends of the exact interval of a share of k in n; each is wrong with probability `alpha` at most."""
    # quantiles of beta distributions; scipy.stats takes half a second to import, and every check of params.yaml is here
    from scipy.special import betainccinv, betaincinv

    low, high = betaincinv(k, n - k + 1, alpha) if k else 0.0, betainccinv(k + 1, n - k, alpha) if k < n else 1.0
    return float(low), float(high)


def strongest(attacks: Iterable[Attack]) -> Attack | None:
    """Returns the attack with the largest AUC of those whose scores differ between images; None if there is none."""
    return max((a for a in attacks if np.ptp(np.concatenate(a)) > 0), key=lambda attack: auc(*attack), default=None)
