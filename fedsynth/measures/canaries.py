"""Canaries: whether an attack tells the marked images that a training had from those that it had not."""

from __future__ import annotations

from functools import partial

import numpy as np

from fedsynth.measures import SHARE, About, Answer, Measure, MeasureInputs, Value
from fedsynth.measures._attack import Attack, auc, epsilon_of_guesses, tpr
from fedsynth.measures._losses import attacked_players
from fedsynth.measures._statistics import bootstrap
from fedsynth.measures.membership import STEP, by_loss, largest

LEAST = 5  # fewest canaries in the training and out of it
FPR = 0.05  # share of the canaries left out that may be taken for trained ones

MADE = (
    "Each site puts images of no patient among its own for a training, by the toss of a coin for each, so that what"
    " an attack with the released weights finds of them is known: "
)
ABOUT = {
    "canaries_auc": About(
        "lower", "Canaries by loss, AUC", MADE + "area under its ROC curve; the floor is chance, 0.5.", SHARE
    ),
    "canaries_found": About(
        "lower",
        f"Canaries found at {100 * FPR:g} % FPR",
        MADE
        + f"the share that is found while at most {100 * FPR:g} % of those left out are taken for one; the floor is"
        " chance. It says what the audit would find of one image of which the model has learnt as much.",
        SHARE,
    ),
    "canaries_epsilon": About(
        "lower",
        "Epsilon, lower bound by canaries",
        MADE + "an epsilon that the training exceeds with 95 % confidence, from one training (Steinke et al. 2023,"
        " arXiv:2305.08846); the largest of the sites. A stated epsilon must not be below it; 0: none is shown.",
        kind="bound",
    ),
}


class Canaries(Measure):
    """What an attack by loss finds of a site's canaries; they are asked for with `audit.canaries` of params.yaml.

    Args:
        draws: noise samples per image for its loss.
        delta: of the lower bound on epsilon.

    Raises ValueError if one of them is out of range.
    """

    audits_training = True
    about = ABOUT

    def __init__(self, draws: int = 16, delta: float = 1e-5):
        if draws < 1 or not 0 < delta < 1:
            raise ValueError(f"draws must be positive and delta in (0, 1), not {draws} and {delta}")
        self.draws, self.delta = draws, delta

    def at_site(self, seen: MeasureInputs) -> Answer:
        n = {"real": len(seen.real[0]), "canaries": sum(map(len, seen.canaries or ()))}
        if (attack := self._attack(seen)) is None:
            return Answer({name: Value(None, n) for name in self.about})
        found = {
            name: bootstrap(seen, statistic, *attack, purpose=name, n=n, floor=floor)
            for name, statistic, floor in (("canaries_auc", auc, 0.5), ("canaries_found", partial(tpr, fpr=FPR), FPR))
        }
        tries = len(attacked_players(seen.family))  # type: ignore[arg-type]
        bound = epsilon_of_guesses(*attack, self.delta, tries)
        return Answer(found | {"canaries_epsilon": Value(STEP * (bound // STEP), n)})

    def _attack(self, seen: MeasureInputs) -> Attack | None:
        if seen.canaries is None or seen.family is None or min(map(len, seen.canaries)) < LEAST:
            return None
        attack = by_loss(seen, *seen.canaries, self.draws)["loss"]
        return attack if attack is not None and np.isfinite(np.concatenate(attack)).all() else None

    def combine(self, answers: dict[str, Answer], centre: MeasureInputs) -> dict[str, Value]:
        """Returns the sites' means; of the bound on epsilon the largest, as of a stated epsilon."""
        return super().combine(answers, centre) | largest(answers, "canaries_epsilon")
