"""Outgoing answers of a training round, besides its arrays."""

from __future__ import annotations

from typing import Annotated

from fedsynth.hospital.outgoing.cells import Shown, any_hidden, told, total_shown
from fedsynth.hospital.outgoing.closed import Closed, Count, Few, Name, Number
from fedsynth.hospital.outgoing.digits import of_measure


class Train(Closed):
    """Of one round; the difference itself is checked by `leave_arrays`."""

    losses: Annotated[dict[Name, Number], Few]
    steps: Count
    weight: Number
    epsilon: Number | None = None
    epsilon_total: Number | None = None  # of all trainings at the site, for one subject
    score: Number | None = None  # one number of all validation images together

    def withheld(self, min_cell: int, cells: Shown) -> None:
        """The weight is the number of training images. At least 1: the server takes no 0. No score of few validation
        images leaves. The steps were taken for as many images as are told (nvflare_jobs/train/client.py).
        """
        if self.score is not None and (any_hidden(cells, "val") or total_shown(cells, "val") < min_cell):
            self.score = None
        if self.score is not None:
            self.score = of_measure(self.score, total_shown(cells, "val"))
        if cells:
            self.weight = float(max(1, told(int(self.weight), cells, min_cell, "train")))


class Exchange(Closed):
    """Of one round of a training whose generator is at the centre;
    each step's gradient is checked by `leave_feedback`.
    """

    losses: Annotated[dict[Name, Number], Few]
    steps: Count
