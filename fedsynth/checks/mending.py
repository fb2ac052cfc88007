"""Repair of an invalid params file, so that the rest of it can be checked."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import ValidationError

from fedsynth.params import Params
from fedsynth.params.near import nearest
from fedsynth.params.problems import Place, Problem, fields, holds, meant_by, of_error, place, value

TIMES = 8  # maximum number of repairs


def mended(raw: Any) -> tuple[Params | None, list[Problem]]:
    """Return the params without their invalid values, None if they cannot be repaired, and the problems.

    Misspelt keys are corrected. pydantic runs the validators of a whole model only if each field is valid, so the file
    is validated again after each repair.
    """
    raw, found = copy.deepcopy(raw), list[Problem]()
    for _ in range(TIMES):
        try:
            return Params.model_validate(raw), found
        except ValidationError as error:
            listed = of_error(copy.deepcopy(raw), error, Params)  # a copy, because repairs change `raw`
            found += [p for p in listed if not any(_follows(p.key, of.key) for of in found)]
            wrong = {place(raw, one["loc"]): one for one in error.errors()}
            misspelt = {at: one for at, one in wrong.items() if one["type"] == "extra_forbidden"} or wrong
            for at in sorted(misspelt, key=_from_the_end):
                _mend(raw, at, misspelt[at])
    return None, found


def _follows(key: str, other: str) -> bool:
    """Return whether a problem may result from a repair: its key is equal to, above or below the other."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def _from_the_end(at: Place) -> int:
    """Return a sort key with the last entries of lists first, so that removals keep the other indices."""
    return -at[-1] if at and isinstance(at[-1], int) else 0


def _mend(raw: Any, at: Place, one: Any) -> None:
    """Rename a misspelt key, or remove an invalid value, or the table in which a key is missing."""
    holder = value(raw, at[:-1])
    if not at or not holds(holder, at[-1]):
        return
    meant = meant_by(raw, one, Params) if one["type"] == "extra_forbidden" else ""
    wrong = holder.pop(at[-1])
    # where the nearest key is there already, another one was hardly meant
    if meant and meant == nearest(at[-1], fields(at[:-1], Params)):
        holder[meant] = wrong
