"""Outgoing calibration of networks by site, class, sex and age band: numbers of groups that are large enough."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from fedsynth.hospital.outgoing.closed import Cell, Counted, Kind, Name, Number
from fedsynth.hospital.outgoing.digits import of_use
from fedsynth.validation.verdict import WITHHELD, withhold


class Calibration(Counted):
    """The calibration error of one kind of network on one group of a site's test images."""

    use: Name
    name: Kind
    model: Name
    site: Name
    by: Literal["site", "class", "sex", "age"]
    group: Name
    value: Number | None
    low: Number | None
    high: Number | None
    n: Cell | Literal["withheld"]

    @property
    def few(self) -> bool:
        return isinstance(self.n, str)

    def withheld(self, min_cell: int) -> None:
        if isinstance(self.n, int) and self.n < min_cell:
            self.n = withhold(self.n, min_cell)
        if self.few:
            self.value = self.low = self.high = None

    def alone(self) -> None:
        """Nothing of it, because another group of the same images is small: its number would follow from the rest."""
        self.n = self.n if self.few else WITHHELD
        self.value = self.low = self.high = None

    def rounded(self) -> None:
        if isinstance(self.n, int):
            self.value, self.low, self.high = (of_use(v, self.n) for v in (self.value, self.low, self.high))


def hold(entries: list[Calibration], min_cell: int, hides: bool) -> None:
    """Withhold small groups, and with them the whole partition that they are of, in place.

    `hides`: whether a class has few test images; then none leaves.
    """
    for of in entries:
        of.withheld(min_cell)
    small = {_partition(of) for of in entries if of.few}
    for of in entries:
        of.alone() if hides or _partition(of) in small else of.rounded()


def _partition(of: Calibration) -> tuple[str, ...]:
    return of.use, of.name, of.by


def names(labels: Iterable[str]) -> list[str]:
    """The names of groups that may leave."""
    from fedsynth.data.people import BANDS, SEXES, UNKNOWN

    return ["all", UNKNOWN, *labels, *SEXES, *BANDS]
