"""Validates an outgoing answer by the closed model of its job, and withholds small cells."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import ValidationError

from fedsynth.data.manifest import COLUMNS
from fedsynth.hospital.outgoing.calibration import Calibration, names
from fedsynth.hospital.outgoing.cells import COUNTED, MIN_CELL, Shown
from fedsynth.hospital.outgoing.closed import Closed, LeakError
from fedsynth.hospital.outgoing.judging import Measured, Measures, Moments, Reference, Row, Score, Spread
from fedsynth.hospital.outgoing.rounds import Exchange, Train
from fedsynth.hospital.outgoing.validation import Failed, Failure, Look, Validate
from fedsynth.params import Params

JOBS: dict[str, type[Closed]] = {
    "look": Look,
    "validate": Validate,
    "train": Train,
    "exchange": Exchange,
    "score": Score,
    "reference": Reference,
    "failure": Failure,
}
SAID = 5  # problems that one message names; a hostile answer may have thousands


def leave(job: str, answer: dict[str, Any], known: Collection[str] | None = None, min_cell: int = MIN_CELL,
          cells: Shown | None = None) -> dict[str, Any]:  # fmt: skip
    """The answer as it may leave. Raises LeakError naming the key where it holds anything else.

    `known` are all names that the job may use: sites, models, players, uses, labels, metrics. Without it, names are
    only held to letters, digits, `_`, `.`, `-` and 80 characters, which a patient's name passes too: a hospital's
    client gives it. `cells` are those that validation has shown of the site's images, see `shown`: a job that has seen
    real images gives them. A metric that rests on fewer than `min_cell` images becomes None and its n "< 5"; one that
    could not be computed is None, not NaN.
    """
    return _through(job, answer, known, min_cell, cells, "the answer may not leave the site")


def _through(job: str, answer: Any, known: Collection[str] | None, min_cell: int, cells: Shown | None,
             refusal: str) -> dict[str, Any]:  # fmt: skip
    """The answer as the closed model of the job lets it through. Raises LeakError with the refusal."""
    if job not in JOBS:
        raise LeakError(f"nothing is known to leave for a job of this kind; known are {', '.join(JOBS)}")
    context = {"known": None if known is None else frozenset(known), "min_cell": min_cell}
    try:
        checked = JOBS[job].model_validate(answer, context=context)
    except ValidationError as error:
        problems = sorted(
            {f"{_key(e['loc'])}: {_why(e)}" for e in error.errors(include_input=False, include_url=False)}
        )
        # its cause would show the values
        raise LeakError(f"{job}: {refusal}: {'; '.join(problems[:SAID])}") from None
    if isinstance(checked, Train | Reference):
        checked.withheld(min_cell, cells or {})
    return checked.model_dump(exclude_unset=True)


def arrive(job: str, answer: Any, known: Collection[str], min_cell: int, cells: Shown | None = None) -> dict[str, Any]:
    """An answer at the centre, if it has come through `leave` at the site: the same door changes nothing of it again.

    `cells` are those that the site's validation has shown: every count, withheld cell and rounding in the answer must
    follow from them. Raises LeakError naming the key where the answer is no such answer.
    """
    passed = _through(job, answer, known, min_cell, cells, "no such answer leaves a site")
    if found := _differs(answer, passed):
        raise LeakError(f"{job}: {_key(found)}: does not follow from the counts that validation has shown")
    return passed


def _differs(one: Any, other: Any, place: tuple[int | str, ...] = ()) -> tuple[int | str, ...]:
    """The place of the first difference, () where there is none. Both have passed the closed models."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return next((at for key in one if (at := _differs(one[key], other[key], (*place, key)))), ())
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return next((at for i in range(len(one)) if (at := _differs(one[i], other[i], (*place, i)))), ())
    return () if one == other else place or ("answer",)


def vocabulary(job: str, params: Params, *more: str) -> frozenset[str]:
    """The names that an answer may hold: labels for `validate`; uses, their metrics, "all" and "public" for `score` and
    `reference`; and `more`.
    """
    if job in ("look", "validate"):
        return frozenset([*params.image.labels, *more])
    metrics = [name for block in params.score.uses.values() for name in block.build(**params.image.context()).metrics]
    numbers = [name for block in params.score.measures.values() for name in block.build(**params.image.context()).about]
    groups = names(params.image.labels) if job == "score" else []
    return frozenset(
        [*groups, "all", "public", *COUNTED, *params.score.uses, *metrics, *params.score.measures, *numbers, *more]
    )


MODELS: list[type[Closed]] = [Failed, Row, Spread, Measured, Moments, Measures, Calibration, *JOBS.values()]
FIELDS = {field for model in MODELS for field in model.model_fields} | set(COLUMNS)


def _key(place: tuple[int | str, ...]) -> str:
    """Where it is. Keys of ours are named; any other may itself be a patient's name."""
    parts = [
        str(p) if isinstance(p, int) or p in FIELDS else "[key]" if p == "[key]" else "(a name)"
        for p in place
        if not _branch(p)
    ]
    return ".".join(parts) or "answer"


def _branch(part: int | str) -> bool:
    """pydantic adds the kind that it tried of a union."""
    return isinstance(part, str) and part.startswith(
        ("constrained-", "function-", "literal[", "int", "float", "str", "none")
    )


def _why(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "is not on the list of what may leave"
    return str(error["msg"]).removeprefix("Value error, ")
