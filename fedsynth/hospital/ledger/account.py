"""The account of one training in a site's ledger, as a privacy mechanism uses it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fedsynth.hospital.ledger import Entry, Ledger
from fedsynth.privacy import Mechanism, PrivacyError
from fedsynth.privacy.noise import Step
from fedsynth.privacy.subject import Spent, group_of, rounded_up

if TYPE_CHECKING:
    from fedsynth.params import Training


class TrainingAccount:
    """What one training has spent at a site; a `fedsynth.privacy.Account`.

    Args:
        key, model, rounds: the training (job.question), its model and the number of its rounds.
        digest: of the site's data.
        images: the largest number of training images of one subject.
    """

    def __init__(self, ledger: Ledger, key: str, model: str, rounds: int, digest: str, images: int = 1):
        self.ledger, self.key, self.model, self.rounds, self.digest = ledger, key, model, rounds, digest
        self.images = rounded_up(images)

    def spent(self, number: int) -> list[Step] | None:
        """Returns what this training has spent before round `number`; None if nothing was ever written at this site.

        A round that was done before, in whatever job, is in it. Nothing is if the training begins again after its last
        round: then it is another one, with a budget of its own, and both are in the sum of all.
        """
        self.ledger.read()
        if not self.ledger.entries:
            return None
        runs = self.ledger.runs(self.key)
        if not runs or (number == 0 and runs[-1][-1].last):
            return []
        return [step for entry in runs[-1] for step in entry.spent]

    def check(self, kept: Sequence[Sequence[Any]]) -> None:
        """Raises PrivacyError if a checkpoint of this training has spent more than was written."""
        written = sum(steps for run in self.ledger.runs(self.key) for entry in run for _, _, steps in entry.spent)
        if (said := sum(int(steps) for _, _, steps in kept)) > written:
            raise PrivacyError(
                f"the ledger {self.ledger.chain.path} knows of {written} steps of training {self.key}, its kept state"
                f" of {said}: lines are lost. Put the ledger back from a backup that is not older than that training"
            )

    def plan(self, mechanism: Mechanism, training: Training, n: int, number: int = 0) -> Spent:
        """Returns what the rest of the training from round `number` on will spend, with `n` training images.

        For `Ledger.allow`, before any image is read. Raises PrivacyError if its budget is spent.
        """
        step = mechanism.plan(training, n, number, self.spent(number) or ())
        return Spent((step,), self._group(mechanism))

    def write(self, mechanism: Mechanism, steps: Sequence[Step], number: int, losses: bool) -> None:
        """Write the steps whose result is about to leave in round `number`, on disk when this returns."""
        spent = Spent(tuple(steps), self._group(mechanism))
        entry = Entry(
            at=datetime.now(UTC),
            key=self.key,
            model=self.model,
            round=number,
            rounds=self.rounds,
            mechanism=f"{type(mechanism).__module__}.{type(mechanism).__qualname__}",
            unit=mechanism.unit,
            relation=mechanism.relation,
            delta=mechanism.delta,
            spent=list(steps),
            group=spent.group,
            digest=self.digest,
            losses=losses,
            rdp=spent.divergences().tolist(),
        )
        self.ledger.add(entry)

    def epsilon(self, mechanism: Mechanism) -> float:
        """Returns what all trainings have spent at the mechanism's delta, for one subject.

        As long as this training is all that there was, its own number bounds the same, and the smaller one holds.
        """
        total = self.ledger.epsilon(mechanism.delta)
        alone = len(self.ledger.runs(self.key)) == 1 and all(
            e.key == self.key and e.group == 1 for e in self.ledger.entries
        )
        return min(total, mechanism.spent()) if alone else total

    def _group(self, mechanism: Mechanism) -> int:
        return group_of(mechanism.unit, mechanism.relation, self.images)
