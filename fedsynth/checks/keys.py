"""pydantic's validation errors as one problem per key, and the file with misspelt keys corrected, so that the rest
can be checked.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from fedsynth.checks.blocks import Problem
from fedsynth.checks.classes import near, nearest
from fedsynth.params import Params

Place = tuple[str | int, ...]  # ("models", "vae", "training", "lr")
OF_TYPE = ("_type", "_parsing", "literal_error")  # how pydantic's errors end that are of a value of another type
TIMES = 8  # a mended file may show another mistake


def problems(raw: Any, error: ValidationError) -> list[Problem]:
    """Of a union every member complains: those count first that took the value's type, and what lies deepest."""
    meant = {(*place(raw, e["loc"])[:-1], _meant(raw, e)) for e in error.errors() if e["type"] == "extra_forbidden"}
    found: dict[Place, list[tuple[bool, str]]] = {}
    for one in error.errors():
        at = _key(raw, one)
        if one["type"] != "missing" or at not in meant:
            found.setdefault(at, []).append((one["type"].endswith(OF_TYPE), _said(one, at)))
    of_type = {at for at, said in found.items() if all(of for of, _ in said)}
    shallow = {at for at in of_type if any(at == other[: len(at)] for other in found if other != at)}
    return [Problem(_dotted(at), value(raw, at), _one(said)) for at, said in found.items() if at not in shallow]


def _dotted(at: Place) -> str:
    """As in params.yaml; an entry of a list is known by its value."""
    return ".".join(map(str, at[:-1] if at and isinstance(at[-1], int) else at)) or "params.yaml"


def _one(found: list[tuple[bool, str]]) -> str:
    closest = [said for of_type, said in found if not of_type] or [said for _, said in found]
    return "; or ".join(dict.fromkeys(closest))


def place(raw: Any, loc: Place) -> Place:
    """Where in the file an error is: without the members of unions, which pydantic names between the keys."""
    at: Place = ()
    for part in loc:
        at = (*at, part) if _has(value(raw, at), part) else at
    return at


def _key(raw: Any, one: Any) -> Place:
    """The place of an error; the key itself where it is missing, or where a sentence about more begins with it."""
    at = place(raw, one["loc"])
    if one["type"] == "missing":
        return (*at, one["loc"][-1])
    first = re.match(r"\w*", str(one["msg"]).removeprefix("Value error, "))
    return (*at, first[0]) if one["type"] == "value_error" and first and first[0] in fields(at) else at


def _has(at: Any, part: str | int) -> bool:
    return part in at if isinstance(at, dict) else isinstance(at, list) and isinstance(part, int) and part < len(at)


def value(raw: Any, at: Place) -> Any:
    """What stands at a place of the file, None where nothing does."""
    for part in at:
        raw = raw[part] if _has(raw, part) else None
    return raw


def fields(at: Place) -> list[str]:
    """The keys that the file may have at a place; none where they are names that a person chooses."""
    models: list[Any] = [Params]
    for part in at:
        models = [inner for of in models for inner in _inner(of, part)]
    return [name for of in models if _is_model(of) for name in of.model_fields]


def _inner(of: Any, part: str | int) -> Iterator[Any]:
    """What may stand at a key of a model, or of a table or a list of them."""
    if not _is_model(of):
        yield from (member for inner in get_args(of)[-1:] for member in _members(inner))
    elif str(part) in of.model_fields:
        yield from _members(of.model_fields[str(part)].annotation)


def _members(of: Any) -> list[Any]:
    if get_origin(of) in (Union, UnionType):
        return [member for inner in get_args(of) for member in _members(inner)]
    return [of]


def _is_model(of: Any) -> bool:
    return isinstance(of, type) and issubclass(of, BaseModel)


def _meant(raw: Any, one: Any) -> str:
    """The key that an unknown one is likely meant to be, "" where it is not plain."""
    *above, name = place(raw, one["loc"])
    there = value(raw, tuple(above))
    return nearest(name, [known for known in fields(tuple(above)) if known not in there])


def _said(one: Any, at: Place) -> str:
    if one["type"] == "extra_forbidden":
        known = fields(at[:-1])
        return f"unknown key; known are {', '.join(known)}{near(at[-1], known)}"
    if one["type"] == "missing":
        return "is missing, and there is no default"
    allowed = re.findall(r"'([^']*)'", str(one.get("ctx", {}).get("expected", "")))
    if one["type"].startswith(("model_type", "dict_type")) and "Block" in str(one["msg"]):
        return "must be {class_path: ..., args: {...}}: the class, and its arguments by name"
    if not at:
        return "is empty, or no table of keys; begin with the params.yaml of the project"
    said = str(one["msg"]).removeprefix("Value error, ").replace("Input should", "must")
    return said + (near(one["input"], allowed) if isinstance(one["input"], str) else "")


def mended(raw: Any) -> Params | None:
    """The file with misspelt keys as they are likely meant, without other wrong ones; None if that is no file either.

    So one mistake does not hide those in what is right.
    """
    raw = copy.deepcopy(raw)
    for _ in range(TIMES):
        try:
            return Params.model_validate(raw)
        except ValidationError as error:
            misspelt = [one for one in error.errors() if one["type"] == "extra_forbidden"]
            for one in reversed(misspelt or error.errors()):  # of a list the last first: the places of the others stay
                _mend(raw, one)
    return None


def _mend(raw: Any, one: Any) -> None:
    """Takes what lacks a key out as a whole."""
    at = place(raw, one["loc"])
    holder = value(raw, at[:-1])
    if not at or not _has(holder, at[-1]):
        return
    meant = _meant(raw, one) if one["type"] == "extra_forbidden" else ""
    wrong = holder.pop(at[-1])
    if meant:
        holder[meant] = wrong
