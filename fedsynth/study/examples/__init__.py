"""Params files that come with fedsynth; each is the whole of a comparison and says in its first lines what it is."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from fedsynth.errors import UserError

HEAD = re.compile(r"# (data|compares|minutes): (.+)")
VARIABLE = re.compile(r"\$\{(\w+)\}")


class ExampleError(UserError):
    """There is no such example; the message names the nearest one."""


@dataclass(frozen=True)
class Example:
    """An example: `data` it is on, what it `compares`, and the `minutes` that a run takes on two cores.

    `variables`: the environment variables that its paths refer to.
    """

    name: str
    data: str
    compares: str
    minutes: str
    variables: tuple[str, ...]
    text: str


def examples() -> list[Example]:
    """Return all examples, sorted by name."""
    return [_read(path) for path in sorted(Path(__file__).parent.glob("*.yaml"))]


def example(name: str) -> Example:
    """Return an example by its name. Raises ExampleError naming the nearest one."""
    known = {one.name: one for one in examples()}
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise ExampleError(f"there is no example {name!r}.{meant} `fedsynth examples` shows all: {', '.join(known)}")
    return known[name]


def _read(path: Path) -> Example:
    text = path.read_text(encoding="utf-8")
    head = dict(HEAD.findall(text))
    code = "\n".join(line.partition(" #")[0] for line in text.splitlines() if not line.startswith("#"))
    variables = tuple(dict.fromkeys(VARIABLE.findall(code)))
    return Example(path.stem, head["data"], head["compares"], head["minutes"], variables, text)
