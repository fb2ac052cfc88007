"""Finding: one row of `fedsynth check`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One row of the table of `fedsynth check`.

    `what` was checked, what was `found`, the `verdict`, and the remedy (`todo`, empty if the verdict is "ok").
    """

    what: str
    found: str
    verdict: Literal["ok", "warning", "fails"] = "ok"
    todo: str = ""


def fails(what: str, found: str, todo: str) -> Finding:
    return Finding(what, found, "fails", todo)


def warns(what: str, found: str, todo: str) -> Finding:
    return Finding(what, found, "warning", todo)
