"""Values within nested dicts and lists, by their path."""

from __future__ import annotations

import copy
from typing import Any

Path = tuple[Any, ...]


def places(answer: Any, path: Path = ()) -> list[Path]:
    """Paths of everything, the containers too."""
    below = answer.items() if isinstance(answer, dict) else enumerate(answer) if isinstance(answer, list) else ()
    return [path, *(place for key, value in below for place in places(value, (*path, key)))]


def at(answer: Any, path: Path) -> Any:
    for key in path:
        answer = answer[key]
    return answer


def put(answer: Any, path: Path, value: Any) -> Any:
    """The answer with `value` at `path`."""
    if not path:
        return value
    answer = copy.deepcopy(answer)
    at = answer
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return answer
