"""The one door out of a hospital (DESIGN §8): what may leave for each job, as a closed list; everything else is refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from fedsynth.errors import UserError
from fedsynth.failures import FAILURES
from fedsynth.manifest import COLUMNS
from fedsynth.params import Params
from fedsynth.rules import HINTS
from fedsynth.verdict import withhold

MIN_CELL = 5
COUNTED = ("real", "train", "synthetic", "members", "non_members")  # images that a measure may say it rests on


class LeakError(UserError):
    """Something else than what may leave was about to. The message names the key, never the value: it may travel in a log."""


class Diverged(LeakError):
    """An update holds NaN or Inf: the training diverged."""


def _known(text: str, info: ValidationInfo) -> str:
    known = (info.context or {}).get("known")
    if known is not None and text not in known:
        raise ValueError("is not one of the names that the job knows")
    return text


# Numbers are plain and finite, names come from a closed set, and no text is free: nothing here can carry a row, a file or a pixel.
Count = Annotated[int, Field(ge=0, le=10**9)]
Cell = Count | Annotated[str, Field(pattern=r"^< [0-9]{1,4}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,80}$"), AfterValidator(_known)]
Expectation = Annotated[str, AfterValidator(lambda text: text if text in HINTS else _refuse("is not the name of an expectation"))]
Kind = Literal["local", "federated", "pooled", "synthetic", "augmented"]  # rows of the table of worth
Sha256 = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
Few = Field(max_length=64)  # a table of numbers with more entries than any job has could be an image


def _refuse(why: str) -> Any:
    raise ValueError(why)


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class Counted(Closed):
    """Holds numbers that rest on images: too few of them say too much of each."""

    def withheld(self, min_cell: int) -> None:
        raise NotImplementedError


class Failed(Closed):
    expectation: Expectation
    count: Cell


class Validate(Closed):
    """The verdict; every count in it is at least the smallest cell, or withheld."""

    passed: bool
    digest: Sha256
    images: Cell
    failed: list[Failed] = Few
    warnings: list[Failed] = Few
    counts: Annotated[dict[Name, dict[Literal["train", "val", "test"], Cell]], Few]

    @model_validator(mode="after")
    def _cells(self, info: ValidationInfo) -> Validate:
        found = [self.images, *(f.count for f in self.failed + self.warnings), *(n for c in self.counts.values() for n in c.values())]
        least = (info.context or {})["min_cell"]
        if any(isinstance(n, int) and n < least for n in found):
            raise ValueError(f"holds a count below {least}")
        return self


class Train(Closed):
    """Of one round; the difference itself is checked by `leave_arrays`."""

    losses: Annotated[dict[Name, Number], Few]
    steps: Count
    weight: Number
    epsilon: Number | None = None


class Row(Counted):
    """What one network reached on one site's test images."""

    use: Name
    name: Kind
    trained_on: Name
    model: Name | Literal[""]
    site: Name
    seed: Count
    metrics: Annotated[dict[Name, Number | None], Few]
    n: Annotated[dict[Name, Cell], Few]

    @model_validator(mode="after")
    def _counted(self) -> Row:
        if set(self.metrics) - set(self.n):
            raise ValueError("has a metric without the number of images that it rests on")
        return self

    def withheld(self, min_cell: int) -> None:
        """A metric of few images says too much of each: with n below the smallest cell neither it nor its n leaves."""
        for name, n in self.n.items():
            if isinstance(n, str) or n < min_cell:
                self.n[name] = n if isinstance(n, str) else withhold(n, min_cell)
                if name in self.metrics:
                    self.metrics[name] = None


Square = Annotated[list[Annotated[list[Number], Field(max_length=256)]], Field(max_length=256)]


class Spread(Counted):
    """How the headline metrics of the table's rows vary together with the test images: a covariance, no resampled metric."""

    use: Name
    model: Name
    site: Name
    metric: Name
    names: list[Kind] = Field(max_length=5)
    covariance: Square | None
    n: Cell

    @model_validator(mode="after")
    def _of_the_rows(self) -> Spread:
        if self.covariance is not None and [len(line) for line in self.covariance] != [len(self.names)] * len(self.names):
            raise ValueError("has a matrix of another size than its rows")
        return self

    def withheld(self, min_cell: int) -> None:
        if isinstance(self.n, str) or self.n < min_cell:
            self.n, self.covariance = self.n if isinstance(self.n, str) else withhold(self.n, min_cell), None


class Measured(Counted):
    """One number of a measure, with the counts of images that it rests on."""

    value: Number | None
    floor: Number | None
    low: Number | None
    high: Number | None
    n: Annotated[dict[Name, Cell], Field(max_length=8)]

    def withheld(self, min_cell: int) -> None:
        """A number that rests on few images says too much of each."""
        if any(isinstance(n, str) or 0 < n < min_cell for n in self.n.values()):
            self.n = {k: n if isinstance(n, str) or n >= min_cell or not n else withhold(n, min_cell) for k, n in self.n.items()}
            self.value = self.floor = self.low = self.high = None


class Moments(Closed):
    """Mean and covariance of the features of n images: only of more images than features, from which no single one can be solved for."""

    n: Count
    mean: list[Number] = Field(min_length=1, max_length=256)
    covariance: Square

    @model_validator(mode="after")
    def _of_many(self, info: ValidationInfo) -> Moments:
        if self.n < max(len(self.mean), (info.context or {})["min_cell"]):
            raise ValueError("are of fewer images than features")
        if [len(line) for line in self.covariance] != [len(self.mean)] * len(self.mean):
            raise ValueError("has a matrix of another size than its mean")
        return self


class Measures(Closed):
    values: Annotated[dict[Name, Measured], Few]
    moments: dict[Literal["held_out", "train"], Moments]


class Reference(Counted):
    """The references' rows."""

    rows: list[Row] = Field(max_length=2000)
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    def withheld(self, min_cell: int) -> None:
        for row in self.rows:
            row.withheld(min_cell)


class Score(Reference):
    """A synthetic set's rows, their spread, and its measures."""

    spread: Annotated[list[Spread], Few] = Field(default_factory=list)
    measures: Annotated[dict[Name, Measures], Few] = Field(default_factory=dict)

    def withheld(self, min_cell: int) -> None:
        super().withheld(min_cell)
        parts: list[Counted] = [*self.spread, *(v for m in self.measures.values() for v in m.values.values())]
        for part in parts:
            part.withheld(min_cell)


class Look(Closed):
    """What a site's data look like now: their digest, nothing where there are none."""

    digest: Sha256


class Failure(Closed):
    """Of any job that cannot be done at this site."""

    failure: Annotated[str, AfterValidator(lambda text: text if text in FAILURES else _refuse("is not a word for a failure"))]


JOBS: dict[str, type[Closed]] = {
    "look": Look,
    "validate": Validate,
    "train": Train,
    "score": Score,
    "reference": Reference,
    "failure": Failure,
}


def leave(job: str, answer: dict[str, Any], known: Collection[str] | None = None, min_cell: int = MIN_CELL) -> dict[str, Any]:
    """The answer as it may leave. Raises LeakError naming the key where it holds anything else.

    `known` are all names that the job may use: sites, models, players, uses, labels, metrics. Without it, names are only held to letters,
    digits, `_`, `.`, `-` and 80 characters, which a patient's name passes too: a hospital's client gives it.
    A metric that rests on fewer than `min_cell` images becomes None and its n "< 5"; one that could not be computed is None, not NaN.
    """
    if job not in JOBS:
        raise LeakError(f"nothing is known to leave for a job of this kind; known are {', '.join(JOBS)}")
    context = {"known": None if known is None else frozenset(known), "min_cell": min_cell}
    try:
        checked = JOBS[job].model_validate(answer, context=context)
    except ValidationError as error:
        problems = "; ".join(sorted({f"{_key(e['loc'])}: {_why(e)}" for e in error.errors(include_input=False, include_url=False)}))
        raise LeakError(f"{job}: the answer may not leave the site: {problems}") from None  # its cause would show the values
    if isinstance(checked, Reference):
        checked.withheld(min_cell)
    return checked.model_dump(exclude_unset=True)


def vocabulary(job: str, params: Params, *more: str) -> frozenset[str]:
    """The names that an answer may hold: labels for `validate`; uses, their metrics and "all" for `score` and `reference`; and `more`."""
    if job in ("look", "validate"):
        return frozenset([*params.image.labels, *more])
    metrics = [name for block in params.score.uses.values() for name in block.build(**params.image.context()).metrics]
    numbers = [name for block in params.score.measures.values() for name in block.build(**params.image.context()).about]
    return frozenset(["all", *COUNTED, *params.score.uses, *metrics, *params.score.measures, *numbers, *more])


def leave_arrays(arrays: Mapping[str, np.ndarray], allowed: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Arrays as they may leave: exactly the names and shapes that the centre sent, floating and finite. Raises LeakError otherwise."""
    if strangers := set(arrays) - set(allowed):
        raise LeakError(f"{len(strangers)} arrays may not leave the site: no parameters of these names were received")
    if missing := sorted(set(allowed) - set(arrays)):
        raise LeakError(f"the difference lacks {len(missing)} parameters that were received, the first: {missing[0]}")
    for name, shape in allowed.items():
        array = arrays[name]
        if type(array) is not np.ndarray or not np.issubdtype(array.dtype, np.floating):
            raise LeakError(f"{name} may not leave the site: not an array of floating numbers")
        if array.shape != tuple(shape):
            raise LeakError(f"{name} may not leave the site: its shape is {array.shape}, the centre sent {tuple(shape)}")
        if not np.isfinite(array).all():
            raise Diverged(
                f"{name} may not leave the site: it holds NaN or infinite values; the training diverged, lower its learning rate"
            )
    return {name: arrays[name] for name in allowed}


MODELS: list[type[Closed]] = [Failed, Row, Spread, Measured, Moments, Measures, *JOBS.values()]
FIELDS = {field for model in MODELS for field in model.model_fields} | set(COLUMNS)


def _key(place: tuple[int | str, ...]) -> str:
    """Where it is. Keys of ours are named; any other may itself be a patient's name."""
    parts = [str(p) if isinstance(p, int) or p in FIELDS else "[key]" if p == "[key]" else "(a name)" for p in place if not _branch(p)]
    return ".".join(parts) or "answer"


def _branch(part: int | str) -> bool:
    """pydantic adds the kind that it tried of a union."""
    return isinstance(part, str) and part.startswith(("constrained-", "function-", "literal[", "int", "float", "str", "none"))


def _why(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "is not on the list of what may leave"
    return str(error["msg"]).removeprefix("Value error, ")
