"""The file with misspelt keys corrected and wrong ones left out, so that the rest can be checked."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import ValidationError

from fedsynth.params import Params
from fedsynth.params.problems import Place, Problem, holds, meant_by, of_error, place, value

TIMES = 8  # a mended file may show another mistake


def mended(raw: Any) -> tuple[Params | None, list[Problem]]:
    """The params without what is wrong in them, None if too little is left; and what is wrong.

    Misspelt keys are taken for the ones that are likely meant. A model's own validators see its values only once each
    of them is valid: so they are asked again after every repair.
    """
    raw, found = copy.deepcopy(raw), list[Problem]()
    for _ in range(TIMES):
        try:
            return Params.model_validate(raw), found
        except ValidationError as error:
            listed = of_error(copy.deepcopy(raw), error, Params)  # their values stay as they are
            found += [p for p in listed if not any(_follows(p.key, of.key) for of in found)]
            wrong = {place(raw, one["loc"]): one for one in error.errors()}
            misspelt = {at: one for at, one in wrong.items() if one["type"] == "extra_forbidden"} or wrong
            for at in sorted(misspelt, key=_from_the_end):
                _mend(raw, at, misspelt[at])
    return None, found


def _follows(key: str, other: str) -> bool:
    """Whether a problem may be one of the repair: it is at the same key as another, or above or below it."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def _from_the_end(at: Place) -> int:
    """Of a list the last entry comes first, so that the places of the others stay."""
    return -at[-1] if at and isinstance(at[-1], int) else 0


def _mend(raw: Any, at: Place, one: Any) -> None:
    """Rename a misspelt key; take a wrong value out, and as a whole a table that lacks a key."""
    holder = value(raw, at[:-1])
    if not at or not holds(holder, at[-1]):
        return
    meant = meant_by(raw, one, Params) if one["type"] == "extra_forbidden" else ""
    wrong = holder.pop(at[-1])
    if meant:
        holder[meant] = wrong
