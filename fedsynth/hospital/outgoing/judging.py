"""Outgoing answers of `reference` and `score`: rows of the table of worth, their covariance, measures."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from fedsynth.hospital.outgoing.calibration import Calibration, hold
from fedsynth.hospital.outgoing.cells import Shown, any_hidden, total_shown
from fedsynth.hospital.outgoing.closed import Cell, Closed, Count, Counted, Few, Kind, Name, Number
from fedsynth.hospital.outgoing.digits import of_covariance, of_measure, of_use
from fedsynth.validation.verdict import WITHHELD, withhold

COUNTS_IMAGES = "copies_"  # how the names of numbers begin that count synthetic images


class Row(Counted):
    """What one network reached on one site's test images."""

    use: Name
    name: Kind
    trained_on: Name
    model: Name | Literal[""]
    site: Name
    seed: Count
    metrics: Annotated[dict[Name, Number | None], Few]
    n: Annotated[dict[Name, Cell | Literal["withheld"]], Few]

    @model_validator(mode="after")
    def _counted(self) -> Row:
        if set(self.metrics) - set(self.n):
            raise ValueError("has a metric without the number of images that it rests on")
        return self

    def withheld(self, min_cell: int) -> None:
        """A metric of few images says too much of each: with n below the smallest cell neither it nor its n leaves."""
        for name, n in self.n.items():
            if n != WITHHELD and (isinstance(n, str) or n < min_cell):
                self.n[name] = n if isinstance(n, str) else withhold(n, min_cell)
                if name in self.metrics:
                    self.metrics[name] = None

    def rounded(self) -> None:
        """With as many digits as the images support."""
        known = {name: n for name, n in self.n.items() if isinstance(n, int)}
        self.metrics = {k: of_use(v, known[k]) if k in known else v for k, v in self.metrics.items()}

    def alone(self) -> None:
        """Of test images with a small cell: the headline, which is the first metric, and no count.

        K times a mean over classes less those of the others is what was withheld, and sensitivities, specificities and
        their means are one system of equations: one number of it can leave. With two digits, because balanced accuracy
        is a sum of fractions whose denominators are known for the large classes: with six, one combination of
        numerators fits, and the small class's is among them. What is left: a mean near 1 (or 0) says that every class
        fared well (or badly).
        """
        headline = next(iter(self.metrics), None)
        self.metrics = {k: round(v, 2) if v is not None and k == headline else None for k, v in self.metrics.items()}
        self.n = {k: n if isinstance(n, str) else WITHHELD for k, n in self.n.items()}


Square = Annotated[list[Annotated[list[Number], Field(max_length=256)]], Field(max_length=256)]


class Spread(Counted):
    """How the headline metrics of the table's rows vary together with the test images: a covariance, no resampled
    metric.
    """

    use: Name
    model: Name
    site: Name
    metric: Name
    names: list[Kind] = Field(max_length=6)
    covariance: Square | None
    n: Cell | Literal["withheld"]

    @model_validator(mode="after")
    def _of_the_rows(self) -> Spread:
        if self.covariance is not None and [len(line) for line in self.covariance] != [len(self.names)] * len(
            self.names
        ):
            raise ValueError("has a matrix of another size than its rows")
        return self

    def withheld(self, min_cell: int) -> None:
        if isinstance(self.n, str) or self.n < min_cell:
            self.n, self.covariance = self.n if isinstance(self.n, str) else withhold(self.n, min_cell), None

    def rounded(self) -> None:
        if self.covariance is not None and isinstance(self.n, int):
            self.covariance = of_covariance(self.covariance, self.n)

    def alone(self) -> None:
        """Of test images with a small cell: nothing, because the variance is mostly that of the smallest class, s (1 -
        s) / n.
        """
        self.n, self.covariance = self.n if isinstance(self.n, str) else WITHHELD, None


class Measured(Counted):
    """One number of a measure, with the counts of images that it rests on."""

    value: Number | None
    floor: Number | None
    low: Number | None
    high: Number | None
    n: Annotated[dict[Name, Cell], Field(max_length=8)]
    some: Literal[True] | None = None  # a number of copies that is not 0 and is not told

    @model_validator(mode="after")
    def _untold(self) -> Measured:
        if self.some and self.value is not None:
            raise ValueError("tells a number and says that it does not")
        return self

    def of_some(self, min_cell: int, held_out: int) -> None:
        """Where all but a few of the held-out images have a value, their number would say how few have none: it is told
        as all of them.
        """
        real = self.n.get("real")
        if "members" not in self.n and isinstance(real, int) and 0 < held_out - real < min_cell:
            self.n = self.n | {"real": held_out}

    def rounded(self) -> None:
        """With as many digits as the fewest of its real images support."""
        if real := [n for kind, n in self.n.items() if kind != "synthetic" and isinstance(n, int) and n]:
            self.value, self.floor, self.low, self.high = (
                of_measure(v, min(real)) for v in (self.value, self.floor, self.low, self.high)
            )

    def withheld(self, min_cell: int) -> None:
        """A number that rests on few images says too much of each."""
        if any(isinstance(n, str) or 0 < n < min_cell for n in self.n.values()):
            self.n = {
                k: n if isinstance(n, str) or n >= min_cell or not n else withhold(n, min_cell)
                for k, n in self.n.items()
            }
            self.value = self.floor = self.low = self.high = None

    def hide_floor(self, min_cell: int) -> None:
        """Of a number that is itself a count. Its value counts synthetic images, which are nobody's, and a gate asks
        for it: that leaves. Its floor counts held-out real ones: few of them are a small cell."""
        if self.floor is not None and 0 < self.floor < min_cell:
            self.floor = None

    def public(self, cells: Shown, min_cell: int, counts_images: bool) -> None:
        """At a site with a small cell: by counts that the centre knows, and at most three digits, so that a share does
        not say of how many. Of no image that is shown, nothing.

        Every set is told as the whole of its splits, also where a measure looks at some classes only: the difference
        would say how many are of the others. A number of synthetic images may have been drawn in the shares of the real
        classes, and does not leave; copies are looked for in the whole set.
        """
        train, held_out = total_shown(cells, "train"), total_shown(cells, "val", "test")
        totals: dict[str, int | str] = {"real": held_out, "train": train, "members": train, "non_members": held_out}
        if counts_images and "synthetic" in self.n:
            totals["synthetic"] = self.n["synthetic"]
        if "canaries" in self.n:  # which params.yaml says
            totals["canaries"] = self.n["canaries"]
        if "members" in self.n:  # which takes both for its real images
            totals["real"] = train + held_out
        self.n = {kind: n if isinstance(n, str) else totals[kind] for kind, n in self.n.items() if kind in totals}
        if nothing := [kind for kind in ("real", "members", "non_members") if self.n.get(kind) == 0]:
            self.n |= dict.fromkeys(nothing, withhold(0, min_cell))
            self.value = self.floor = self.low = self.high = None
        if not counts_images:
            self.value, self.floor, self.low, self.high = (
                _three_digits(v) for v in (self.value, self.floor, self.low, self.high)
            )


def _three_digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


class Moments(Closed):
    """Mean and covariance of the features of n images: only of more images than features, from which no single one can
    be solved for. `independent`: as many independent images would vary as much; between the number of patients and n,
    in two digits, and only where no cell is small.
    """

    n: Count
    independent: Count | None = None
    mean: list[Number] = Field(min_length=1, max_length=256)
    covariance: Square

    @model_validator(mode="after")
    def _of_many(self, info: ValidationInfo) -> Moments:
        if self.n < max(len(self.mean), (info.context or {})["min_cell"]):
            raise ValueError("are of fewer images than features")
        if [len(line) for line in self.covariance] != [len(self.mean)] * len(self.mean):
            raise ValueError("has a matrix of another size than its mean")
        if self.independent is not None and self.independent > self.n:
            raise ValueError("has more independent images than images")
        return self

    def rounded(self, min_cell: int) -> None:
        """With two digits, rounded down; of fewer than the smallest cell, which may be patients, none."""
        if self.independent is not None:
            step = 10 ** max(0, len(str(self.independent)) - 2)
            self.independent = None if self.independent < min_cell else self.independent // step * step


def in_words(measures: dict[str, Any]) -> None:
    """Replace the numbers of copies by 0 or "some", in place: the next larger number would count one patient."""
    for measure in measures.values():
        for name, of in measure["values"].items():
            if name.startswith(COUNTS_IMAGES) and of["value"]:
                of |= {"value": None, "floor": None, "low": None, "high": None, "some": True}
            elif name.startswith(COUNTS_IMAGES):
                of |= {"floor": None}


class Measures(Closed):
    values: Annotated[dict[Name, Measured], Few]
    moments: dict[Literal["held_out", "train"], Moments]

    def withheld(self, min_cell: int, cells: Shown, hides: bool) -> None:
        for name, value in self.values.items():
            counts_images = name.startswith(COUNTS_IMAGES)
            value.of_some(min_cell, total_shown(cells, "val", "test") if not hides else 0)
            value.withheld(min_cell)
            if counts_images:
                value.hide_floor(min_cell)
            if hides:
                value.public(cells, min_cell, counts_images)
            if not counts_images:
                value.rounded()
        for moments in self.moments.values():
            moments.rounded(min_cell)
        if hides:
            totals = {"held_out": total_shown(cells, "val", "test"), "train": total_shown(cells, "train")}
            told = {k: m.model_copy(update={"n": totals[k], "independent": None}) for k, m in self.moments.items()}
            self.moments = {k: m for k, m in told.items() if m.n >= max(len(m.mean), min_cell)}


class Reference(Closed):
    """The references' rows."""

    rows: list[Row] = Field(max_length=2000)
    seconds: Annotated[float, Field(ge=0, le=10**7)] | None = None

    def withheld(self, min_cell: int, cells: Shown) -> None:
        alone = self.hides(min_cell, cells)
        for part in self.of_test_images():
            part.withheld(min_cell)
            part.alone() if alone else part.rounded()
        if alone or any_hidden(cells, "train", "val", "test"):
            self.seconds = None  # a use's time grows with its images

    def hides(self, min_cell: int, cells: Shown) -> bool:
        """Whether a cell of the test images is small; a row's own small count (of images without a mask, say) is one,
        too.
        """
        own = [n for row in self.rows for n in row.n.values()]
        return any_hidden(cells, "test") or any(n == WITHHELD or (isinstance(n, int) and 0 < n < min_cell) for n in own)

    def of_test_images(self) -> list[Row | Spread]:
        return [*self.rows]


class Score(Reference):
    """A synthetic set's rows, their spread, and its measures."""

    spread: Annotated[list[Spread], Few] = Field(default_factory=list)
    measures: Annotated[dict[Name, Measures], Few] = Field(default_factory=dict)
    calibration: list[Calibration] = Field(default_factory=list, max_length=1000)

    def withheld(self, min_cell: int, cells: Shown) -> None:
        hides = bool(cells) and (self.hides(min_cell, cells) or any_hidden(cells, "train", "val"))
        hold(self.calibration, min_cell, self.hides(min_cell, cells))
        super().withheld(min_cell, cells)
        for measure in self.measures.values():
            measure.withheld(min_cell, cells, hides)

    def of_test_images(self) -> list[Row | Spread]:
        return [*self.rows, *self.spread]
