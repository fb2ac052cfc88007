"""The ledger: what all trainings at a site have spent of its subjects' privacy, over all jobs, nights and models.

Every line is one round of one training with a privacy mechanism, written to disk before the update leaves. All lines
are composed by adding up their Rényi divergences (RDP, Mironov 2017, arXiv:1702.07476) with Opacus' numbers for each
step, and converted to epsilon once, at the end. Not by PRV, which is 4 to 7 % tighter for one training: it takes
seconds where the kinds of steps are many, has no number above an epsilon of about 100, and cannot mix images in groups
with subjects, whereas divergences of any mechanisms add up in microseconds. While one training alone has spent, its
own number holds if it is smaller. The sum is for one subject more or less, the worst that there may be: one who was in
every training, with the largest number of images of each (fedsynth/privacy/subject.py; docs/privacy.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.hospital.chain import Chain, ChainError, Place
from fedsynth.hospital.ledger.entry import Entry
from fedsynth.privacy import PrivacyError

if TYPE_CHECKING:
    from fedsynth.privacy.subject import Spent

__all__ = ["Entry", "Ledger"]

FILE = "ledger.jsonl"


class Ledger:
    """The ledger of a site, in its folder of FEDSYNTH_STATE; several processes may use it at once.

    Reading verifies it. Raises PrivacyError if it is lost, shortened or edited, saying what to do.
    """

    def __init__(self, folder: Path):
        self.folder, self.chain = folder, Chain(folder / FILE)
        self.entries: list[Entry] = []
        self._place = Place()  # up to which the file was read
        self._total: np.ndarray | float = 0.0  # divergences of the first `_summed` entries, at ORDERS
        self._summed = 0
        self.read()

    def read(self) -> None:
        """Take in what other processes have written."""
        try:
            lines, self._place = self.chain.follow(self._place)
        except ChainError as error:
            raise _untrusted(error) from error
        self.entries += map(self._entry, lines)
        if not self.chain.end.is_file():
            self._refuse_older_states()

    def add(self, entry: Entry) -> None:
        """Append a line, on disk when this returns."""
        try:
            self.chain.add(entry.model_dump(mode="json"))
        except ChainError as error:
            raise _untrusted(error) from error
        self.read()

    def epsilon(self, delta: float, since: datetime | None = None, more: Iterable[Spent] = ()) -> float:
        """Returns what was spent since then at `delta`, for the worst subject; `more`: and what is planned."""
        from fedsynth.privacy.noise import bound

        for entry in self.entries[self._summed :]:
            self._total = self._total + entry.divergences
        self._summed = len(self.entries)
        before = self._total if since is None else sum(e.divergences for e in self.entries if e.since(since))
        return bound(np.asarray(before + sum(plan.divergences() for plan in more)), delta)

    def allow(self, planned: Spent | Sequence[Spent], cap: float, days: float | None, delta: float) -> None:
        """Raise PrivacyError if with what is planned a subject would have spent more than `cap` at `delta`.

        What counts is what was spent in the last `days`, or ever where that is None. `planned`:
        `TrainingAccount.plan` (account.py), which leaves out the rounds of a training that are written already.
        """
        if not (cap > 0 and 0 < delta < 1 and (days is None or days > 0)):
            raise PrivacyError(f"a cap of {cap} at delta {delta} over {days} days makes no sense; mend the policy")
        self.read()
        since = None if days is None else datetime.now(UTC) - timedelta(days=days)
        more = list(planned) if isinstance(planned, Sequence) else [planned]
        spent, then = self.epsilon(delta, since), self.epsilon(delta, since, more)
        if not then <= cap:  # and if it is no number
            over = "ever" if days is None else f"in the last {days:g} days"
            raise PrivacyError(
                f"with this training, epsilon for one subject would be {then:.3g} at delta {delta:g}, and at most"
                f" {cap:g} is allowed here. Trainings at this site have spent {spent:.3g} {over}. Ask for a smaller"
                " epsilon or fewer rounds" + ("" if days is None else ", wait") + ", or ask the hospital for more"
            )

    def runs(self, key: str) -> list[list[Entry]]:
        """Returns the entries of a training, in order, by how often it ran.

        A training that begins again after its last round runs another time; one that begins again before is the same.
        """
        own, runs = [e for e in self.entries if e.key == key], [0]
        for before, after in pairwise(own):
            runs.append(runs[-1] + (before.last and after.round == 0))
        return [[e for e, _ in of] for _, of in groupby(zip(own, runs, strict=False), key=lambda pair: pair[1])]

    def _entry(self, line: dict[str, Any]) -> Entry:
        try:
            return Entry.model_validate(line)
        except ValueError as error:
            raise PrivacyError(
                f"a line of {self.chain.path} is none of this version of fedsynth ({type(error).__name__}); install the"
                " version that wrote it, or a newer one"
            ) from None

    def _refuse_older_states(self) -> None:
        """Raise PrivacyError if trainings have spent here and there is no ledger: it was lost, or is newer."""
        for path in sorted((self.folder / "train").glob("*.pt")):
            from fedsynth.training import checkpoint  # imports torch

            if _spent(checkpoint.load(path)):
                raise PrivacyError(
                    f"there is no ledger in {self.folder}, and {path} says that a training has spent. Bring {FILE} and"
                    f" {self.chain.end.name} back from a backup. If there never was one (fedsynth kept none before),"
                    f" write down what was spent, move {path} away, and the ledger begins with the next training"
                )


def _untrusted(error: ChainError) -> PrivacyError:
    return PrivacyError(
        f"the ledger cannot be trusted, so nobody knows what the images of this site have spent: {error} that is not"
        " older than the last training. Until then none with a privacy mechanism starts here (docs/privacy.md)"
    )


def _spent(state: dict[str, Any] | None) -> bool:
    return bool(((state or {}).get("privacy") or {}).get("history"))
