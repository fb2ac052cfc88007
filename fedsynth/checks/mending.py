"""The file with misspelt keys corrected and wrong ones left out, so that the rest can be checked."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import ValidationError

from fedsynth.params import Params
from fedsynth.params.problems import Place, holds, meant_by, place, value

TIMES = 8  # a mended file may show another mistake


def mended(raw: Any) -> Params | None:
    """The file with misspelt keys as they are likely meant, without other wrong ones; None if that is no file either.

    So one mistake does not hide those in what is right.
    """
    raw = copy.deepcopy(raw)
    for _ in range(TIMES):
        try:
            return Params.model_validate(raw)
        except ValidationError as error:
            found = error.errors()
            misspelt = [one for one in found if one["type"] == "extra_forbidden"]
            of = {place(raw, one["loc"]): one for one in misspelt or found}
            for at in sorted(of, key=_from_the_end):
                _mend(raw, at, of[at])
    return None


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
