"""Finding: one row of `fedsynth check`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Finding:
    """One row of the table: `what` was looked at, what was `found`, and what to do (`todo`,
    empty where all is well).
    """

    what: str
    found: str
    verdict: Literal["ok", "warning", "fails"] = "ok"
    todo: str = ""


def fails(what: str, found: str, todo: str) -> Finding:
    return Finding(what, found, "fails", todo)


def warns(what: str, found: str, todo: str) -> Finding:
    return Finding(what, found, "warning", todo)
