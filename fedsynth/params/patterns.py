"""Patterns of names: the last one that matches decides."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase


def travels(name: str, patterns: Sequence[str]) -> bool:
    """Whether the last of the `patterns` that matches the name has no "!"; False if none matches."""
    fitting = [p for p in patterns if fnmatchcase(name, p.removeprefix("!"))]
    return bool(fitting) and not fitting[-1].startswith("!")
