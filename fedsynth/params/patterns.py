"""Patterns of names: the last one that matches decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from fedsynth.params.near import near


def travels(name: str, patterns: Sequence[str]) -> bool:
    """Whether the last of the `patterns` that matches the name has no "!"; False if none matches."""
    fitting = [p for p in patterns if fnmatchcase(name, p.removeprefix("!"))]
    return bool(fitting) and not fitting[-1].startswith("!")


def known(names: Iterable[str]) -> list[str]:
    """Return patterns of the first one, two and three words of the names, in their order."""
    parts = [name.split(".") for name in names]
    return list(dict.fromkeys(".".join([*of[:n], "*"]) for n in (1, 2, 3) for of in parts if len(of) > n))


def widest(names: Iterable[str]) -> str:
    """Return the patterns of the first word, for a message."""
    return ", ".join(pattern for pattern in known(names) if pattern.count(".") == 1)


def unmatched(pattern: str, names: Sequence[str]) -> str:
    """Return what is wrong with a pattern that matches none of the names of parameters, "" where it matches one."""
    plain = pattern.removeprefix("!")
    if any(travels(name, [plain]) for name in names):
        return ""
    return f"matches no parameter of the family; the widest patterns are {widest(names)}{near(plain, known(names))}"
