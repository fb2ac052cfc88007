"""The one door out of a hospital (docs/architecture.md): what may leave for each job, as a closed list; everything else is refused.

Small cells. What the centre knows of a site's classes is what validation has shown, a number or "< 5" for each class and split. From an
exact total the one cell that is withheld would follow by a subtraction. So where a cell is withheld, no count of real images leaves that
it is part of, but the sum of the cells that are shown (as in fedsynth/verdict.py): a function of what is known, which can tell nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from fedsynth.coding import fitting
from fedsynth.compression import CodingError, Compression
from fedsynth.errors import UserError
from fedsynth.failures import FAILURES
from fedsynth.manifest import COLUMNS
from fedsynth.params import Params
from fedsynth.rules import HINTS
from fedsynth.verdict import count, withhold

MIN_CELL = 5
WITHHELD = "withheld"  # a count that is not small itself, but another one would follow from it
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
Shown = Mapping[str, Mapping[str, int | str]]  # class -> split -> images, as validation shows them
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


def shown(manifest: Any, labels: list[str], min_cell: int) -> dict[str, dict[str, int | str]]:
    """What validation has shown of these images: each class and split, small ones as "< 5"."""
    return {label: {s: withhold(n, min_cell) for s, n in splits.items()} for label, splits in count(manifest, labels).items()}


def _hides(cells: Shown, *splits: str) -> bool:
    """Whether a class has too few images in one of these splits."""
    return any(isinstance(of[split], str) for of in cells.values() for split in splits)


def _total(cells: Shown, *splits: str) -> int:
    """Images in these splits, of the cells that are shown."""
    return sum(n for of in cells.values() for split in splits if isinstance(n := of[split], int))


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
    score: Number | None = None  # one number of all validation images together

    def withheld(self, min_cell: int, cells: Shown) -> None:
        """The weight is the number of training images. At least 1: the server takes no 0. No score of few validation images leaves."""
        if self.score is not None and (_hides(cells, "val") or _total(cells, "val") < min_cell):
            self.score = None
        if _hides(cells, "train"):
            self.weight = float(max(1, _total(cells, "train")))


class Exchange(Closed):
    """Of one round of a training whose generator is at the centre; each step's gradient is checked by `leave_feedback`."""

    losses: Annotated[dict[Name, Number], Few]
    steps: Count


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
            if isinstance(n, str) or n < min_cell:
                self.n[name] = n if isinstance(n, str) else withhold(n, min_cell)
                if name in self.metrics:
                    self.metrics[name] = None

    def alone(self) -> None:
        """Of test images with a small cell: the headline, which is the first metric, and no count.

        K times a mean over classes less those of the others is what was withheld, and sensitivities, specificities and their means are one
        system of equations: one number of it can leave. With two digits, because balanced accuracy is a sum of fractions whose
        denominators are known for the large classes: with six, one combination of numerators fits, and the small class's is among them.
        What is left: a mean near 1 (or 0) says that every class fared well (or badly).
        """
        headline = next(iter(self.metrics), None)
        self.metrics = {k: round(v, 2) if v is not None and k == headline else None for k, v in self.metrics.items()}
        self.n = {k: n if isinstance(n, str) else WITHHELD for k, n in self.n.items()}


Square = Annotated[list[Annotated[list[Number], Field(max_length=256)]], Field(max_length=256)]


class Spread(Counted):
    """How the headline metrics of the table's rows vary together with the test images: a covariance, no resampled metric."""

    use: Name
    model: Name
    site: Name
    metric: Name
    names: list[Kind] = Field(max_length=5)
    covariance: Square | None
    n: Cell | Literal["withheld"]

    @model_validator(mode="after")
    def _of_the_rows(self) -> Spread:
        if self.covariance is not None and [len(line) for line in self.covariance] != [len(self.names)] * len(self.names):
            raise ValueError("has a matrix of another size than its rows")
        return self

    def withheld(self, min_cell: int) -> None:
        if isinstance(self.n, str) or self.n < min_cell:
            self.n, self.covariance = self.n if isinstance(self.n, str) else withhold(self.n, min_cell), None

    def alone(self) -> None:
        """Of test images with a small cell: nothing, because the variance is mostly that of the smallest class, s (1 - s) / n."""
        self.n, self.covariance = self.n if isinstance(self.n, str) else WITHHELD, None


class Measured(Counted):
    """One number of a measure, with the counts of images that it rests on."""

    value: Number | None
    floor: Number | None
    low: Number | None
    high: Number | None
    n: Annotated[dict[Name, Cell], Field(max_length=8)]

    def of_some(self, min_cell: int, held_out: int) -> None:
        """Where all but a few of the held-out images have a value, their number would say how few have none: it is told as all of them."""
        real = self.n.get("real")
        if "members" not in self.n and isinstance(real, int) and 0 < held_out - real < min_cell:
            self.n = self.n | {"real": held_out}

    def withheld(self, min_cell: int) -> None:
        """A number that rests on few images says too much of each."""
        if any(isinstance(n, str) or 0 < n < min_cell for n in self.n.values()):
            self.n = {k: n if isinstance(n, str) or n >= min_cell or not n else withhold(n, min_cell) for k, n in self.n.items()}
            self.value = self.floor = self.low = self.high = None

    def hide_floor(self, min_cell: int) -> None:
        """Of a number that is itself a count. Its value counts synthetic images, which are nobody's, and a gate asks for it: that leaves.
        Its floor counts held-out real ones: few of them are a small cell."""
        if self.floor is not None and 0 < self.floor < min_cell:
            self.floor = None

    def public(self, cells: Shown, counts_images: bool) -> None:
        """At a site with a small cell: by counts that the centre knows, and three digits, so that a share does not say of how many.

        Every set is told as the whole of its splits, also where a measure looks at some classes only: the difference would say how many
        are of the others. A number of synthetic images may have been drawn in the shares of the real classes, and does not leave; copies
        are looked for in the whole set.
        """
        train, held_out = _total(cells, "train"), _total(cells, "val", "test")
        totals: dict[str, int | str] = {"real": held_out, "train": train, "members": train, "non_members": held_out}
        if counts_images and "synthetic" in self.n:
            totals["synthetic"] = self.n["synthetic"]
        if "members" in self.n:  # which takes both for its real images
            totals["real"] = train + held_out
        self.n = {kind: n if isinstance(n, str) else totals[kind] for kind, n in self.n.items() if kind in totals}
        if not counts_images:
            self.value, self.floor, self.low, self.high = (_three_digits(v) for v in (self.value, self.floor, self.low, self.high))


def _three_digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


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

    def withheld(self, min_cell: int, cells: Shown, hides: bool) -> None:
        for name, value in self.values.items():
            counts_images = name.startswith("copies_")
            value.of_some(min_cell, _total(cells, "val", "test") if not hides else 0)
            value.withheld(min_cell)
            if counts_images:
                value.hide_floor(min_cell)
            if hides:
                value.public(cells, counts_images)
        if hides:
            totals = {"held_out": _total(cells, "val", "test"), "train": _total(cells, "train")}
            self.moments = {k: m.model_copy(update={"n": totals[k]}) for k, m in self.moments.items() if totals[k]}


class Reference(Closed):
    """The references' rows."""

    rows: list[Row] = Field(max_length=2000)
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    def withheld(self, min_cell: int, cells: Shown) -> None:
        alone = self.hides(min_cell, cells)
        for part in self.of_test_images():
            part.withheld(min_cell)
            if alone:
                part.alone()

    def hides(self, min_cell: int, cells: Shown) -> bool:
        """Whether a cell of the test images is small; a row's own small count (of images without a mask, say) is one, too."""
        own = [n for row in self.rows for n in row.n.values()]
        return _hides(cells, "test") or any(isinstance(n, str) or 0 < n < min_cell for n in own)

    def of_test_images(self) -> list[Row | Spread]:
        return [*self.rows]


class Score(Reference):
    """A synthetic set's rows, their spread, and its measures."""

    spread: Annotated[list[Spread], Few] = Field(default_factory=list)
    measures: Annotated[dict[Name, Measures], Few] = Field(default_factory=dict)

    def withheld(self, min_cell: int, cells: Shown) -> None:
        hides = bool(cells) and (self.hides(min_cell, cells) or _hides(cells, "train", "val"))
        super().withheld(min_cell, cells)
        for measure in self.measures.values():
            measure.withheld(min_cell, cells, hides)

    def of_test_images(self) -> list[Row | Spread]:
        return [*self.rows, *self.spread]


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
    "exchange": Exchange,
    "score": Score,
    "reference": Reference,
    "failure": Failure,
}


def leave(job: str, answer: dict[str, Any], known: Collection[str] | None = None, min_cell: int = MIN_CELL,
          cells: Shown | None = None) -> dict[str, Any]:  # fmt: skip
    """The answer as it may leave. Raises LeakError naming the key where it holds anything else.

    `known` are all names that the job may use: sites, models, players, uses, labels, metrics. Without it, names are only held to letters,
    digits, `_`, `.`, `-` and 80 characters, which a patient's name passes too: a hospital's client gives it.
    `cells` are those that validation has shown of the site's images, see `shown`: a job that has seen real images gives them.
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
    if isinstance(checked, Train | Reference):
        checked.withheld(min_cell, cells or {})
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


def leave_feedback(feedback: np.ndarray, received: tuple[int, ...]) -> np.ndarray:
    """The gradient at the images that the centre sent, as it may leave: of their shape, float32, finite. Raises LeakError otherwise."""
    allowed = leave_arrays({"feedback": feedback}, {"feedback": received})["feedback"]
    if allowed.dtype != np.float32:
        raise LeakError("feedback may not leave the site: its numbers are longer than those that were sent")
    return allowed


def leave_coded(coded: Mapping[str, np.ndarray], by: Compression, allowed: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Coded arrays as they may leave: of the closed form that the coding has for what the centre sent, and no more bytes than that in
    float32. Raises LeakError otherwise."""
    try:
        fitting(by, coded, allowed)
    except CodingError as error:
        raise LeakError(f"the coded difference may not leave the site: {error}") from None
    if sum(a.nbytes for a in coded.values()) > 4 * sum(int(np.prod(shape)) for shape in allowed.values()):
        raise LeakError("the coded difference may not leave the site: it is larger than what it codes")
    return dict(coded)


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
