"""One line of the ledger: what left, by which mechanism, and what it costs one subject."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import AwareDatetime, Field

from fedsynth.params import Strict

Count = Annotated[int, Field(ge=1)]
Noise = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, le=1)]


class Entry(Strict):
    """The release of one round.

    Attributes:
        at: when, UTC.
        key, model, round, rounds: the training (job.question), its model, the round from 0, and how many are planned.
        mechanism, unit, relation, delta: what protects, and what its epsilon means.
        spent: noise multiplier, sampling rate and number of steps that were not in an earlier line.
        group: how many units one subject is at most (privacy/subject.py).
        digest: of the site's data.
        losses: whether losses left as well.
        rdp: Rényi divergences of all steps together at noise.ORDERS, for one subject more or less, so that they need
            not be computed anew at every start.
    """

    at: AwareDatetime
    key: str
    model: str
    round: int = Field(ge=0)
    rounds: Count
    mechanism: str
    unit: Literal["image", "subject", "site"]
    relation: Literal["add_remove", "replace"]
    delta: float = Field(gt=0, lt=1)
    spent: list[tuple[Noise, Rate, Count]]
    group: Count
    digest: str
    losses: bool
    rdp: list[float]

    @property
    def last(self) -> bool:
        return self.round + 1 >= self.rounds

    def since(self, start: datetime | None) -> bool:
        return start is None or self.at >= start

    @cached_property
    def divergences(self) -> np.ndarray:
        """Rényi divergences at ORDERS; computed anew from `spent` for a line that was written with other orders."""
        from fedsynth.privacy.noise import ORDERS
        from fedsynth.privacy.subject import Spent

        if len(self.rdp) == len(ORDERS):
            return np.array(self.rdp)
        return Spent(tuple(self.spent), self.group).divergences()
