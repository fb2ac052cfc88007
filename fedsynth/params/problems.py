"""Problems in params.yaml, one for each key; also pydantic's validation errors in our own words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from fedsynth.params.errors import ParamsError
from fedsynth.params.names import quoted
from fedsynth.params.near import near, nearest

Place = tuple[str | int, ...]  # ("models", "vae", "training", "lr")
Wrong = tuple[Place, Any, str]  # place, value, what is wrong with it
Model = TypeVar("Model", bound=BaseModel)
Entry = TypeVar("Entry")
TYPES = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "a text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
}
OF_TYPE = ("_type", "_parsing", "literal_error")  # suffixes of pydantic's errors for a value of the wrong type


@dataclass(frozen=True)
class Problem:
    """A mistake in params.yaml.

    `key`: its place, "models.vae.training.lr"; `said`: what is wrong, what is allowed, and the nearest name.
    """

    key: str
    value: Any
    said: str

    def __str__(self) -> str:
        shown = "" if self.value is None or isinstance(self.value, dict) else f"{_short(self.value)}: "
        return f"{f'{self.key}: ' if self.key else ''}{shown}{' '.join(self.said.split())}"


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


class ArgumentsError(ParamsError):
    """A source's arguments are invalid, or do not fit `image`.

    The keys of `problems` are relative to `args`, those of `image` absolute: "sites.north.mix", "image.channels".
    """

    def __init__(self, problems: Sequence[Problem]):
        self.problems = list(problems)
        super().__init__("\n".join(map(str, self.under("source"))))

    def under(self, key: str) -> list[Problem]:
        """Return the problems with absolute keys, for the source at `key`."""
        return [p if p.key.startswith("image.") else replace(p, key=f"{key}.args.{p.key}") for p in self.problems]


def parsed(model: type[Model], value: Any, key: str, context: Any = None) -> tuple[Model | None, list[Problem]]:
    """Return a part of a source's arguments as a pydantic model, None if it is invalid, and its problems.

    `key`: its place relative to `args`; `context`: passed to the model's validators.
    """
    try:
        return model.model_validate(value, context=context), []
    except ValidationError as error:
        found = of_error(value, error, model)
        return None, [replace(p, key=f"{key}.{p.key}" if p.key else key) for p in found]


def argument(model: type[Model], value: Any, key: str) -> Model:
    """Return a part of a source's arguments as a pydantic model. Raises ArgumentsError with all its problems."""
    made, wrong = parsed(model, value, key)
    if made is None:
        raise ArgumentsError(wrong)
    return made


def invalid(title: str, wrong: Iterable[Wrong]) -> ValidationError:
    """Return the error that a validator raises for several mistakes; places are relative to what it validates."""
    # the sentence is passed as an argument, because a template may not contain { and }
    details = [
        InitErrorDetails(type=PydanticCustomError("value_error", "{said}", {"said": said}), loc=at, input=value)
        for at, value, said in wrong
    ]
    return ValidationError.from_exception_data(title, details)


def twice(entries: list[Entry]) -> list[Entry]:
    """Return the entries. Raises ValidationError if one is repeated."""
    again = [((n,), entry, "is named twice; name each once") for n, entry in enumerate(entries) if entry in entries[:n]]
    if again:
        raise invalid("list", again)
    return entries


Once = Annotated[list[Entry], AfterValidator(twice)]  # Once[int]: a list without repeated entries
Names = Once[str]


def unknown(key: str, names: Iterable[str], known: Collection[str], said: str) -> Iterator[Wrong]:
    """Yield the entries of a list that are unknown; the sentence is `said` and the known names."""
    for n, name in enumerate(names):
        if name not in known:
            yield (key, n), name, f"{said} {those(name, known)}"


def those(name: str, known: Collection[str]) -> str:
    """Return the known names with a hint: "t1, t2, lesion; did you mean 'lesion'?"."""
    return f"{', '.join(known) or '(none)'}{near(name, known)}"


def of_error(raw: Any, error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Return pydantic's errors for `raw`, which should be a `model`, as one problem for each key.

    pydantic has errors for every member of a union: those of members with the value's type, and of the deepest keys,
    are preferred.
    """
    meant = {
        (*place(raw, e["loc"])[:-1], meant_by(raw, e, model)) for e in error.errors() if e["type"] == "extra_forbidden"
    }
    found: dict[Place, list[tuple[bool, str]]] = {}
    for one in error.errors():
        at = _key(raw, one, model)
        if one["type"] != "missing" or at not in meant:
            found.setdefault(at, []).append((one["type"].endswith(OF_TYPE), _said(one, at, model)))
    of_type = {at for at, said in found.items() if all(of for of, _ in said)}
    shallow = {at for at in of_type if any(at == other[: len(at)] for other in found if other != at)}
    return [Problem(_dotted(at), value(raw, at), _one(said)) for at, said in found.items() if at not in shallow]


def _dotted(at: Place) -> str:
    """Return a place as a key; the index of a list is omitted, because the problem shows the entry."""
    return ".".join(map(str, at[:-1] if at and isinstance(at[-1], int) else at))


def _one(found: list[tuple[bool, str]]) -> str:
    closest = [said for of_type, said in found if not of_type] or [said for _, said in found]
    return "; or ".join(dict.fromkeys(closest))


def place(raw: Any, loc: Place) -> Place:
    """Return the place of an error in the file, without the names of union members that pydantic adds."""
    at: Place = ()
    for part in loc:
        at = (*at, part) if holds(value(raw, at), part) else at
    return at


def _key(raw: Any, one: Any, model: type[BaseModel]) -> Place:
    """Return the place of an error; that of a missing key, and of the key with which a sentence begins."""
    at = place(raw, one["loc"])
    last = one["loc"][-1] if one["loc"] else ""
    if one["type"] == "missing" or (at[-1:] != (last,) and last in fields(at, model)):
        return (*at, last)
    first = re.match(r"\w*", str(one["msg"]).removeprefix("Value error, "))
    return (*at, first[0]) if one["type"] == "value_error" and first and first[0] in fields(at, model) else at


def holds(at: Any, part: str | int) -> bool:
    return part in at if isinstance(at, dict) else isinstance(at, list) and isinstance(part, int) and part < len(at)


def value(raw: Any, at: Place) -> Any:
    """Return the value at a place of the file, None if there is none."""
    for part in at:
        raw = raw[part] if holds(raw, part) else None
    return raw


def fields(at: Place, model: type[BaseModel]) -> list[str]:
    """Return the keys that a `model` has at a place; none if they are names that the user chooses."""
    models: list[Any] = [model]
    for part in at:
        models = [inner for of in models for inner in _inner(of, part)]
    return [name for of in models if _is_model(of) for name in of.model_fields]


def _inner(of: Any, part: str | int) -> Iterator[Any]:
    """Yield the types at a key of a model, or of a table or list of models."""
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


def meant_by(raw: Any, one: Any, model: type[BaseModel]) -> str:
    """Return the key that is probably meant by an unknown one, "" if none is similar."""
    *above, name = place(raw, one["loc"])
    there = value(raw, tuple(above))
    return nearest(name, [known for known in fields(tuple(above), model) if known not in there])


def _said(one: Any, at: Place, model: type[BaseModel]) -> str:
    kind, ctx = one["type"], one.get("ctx", {})
    if kind == "extra_forbidden":
        known = fields(at[:-1], model)
        return f"unknown key; known are {', '.join(known)}{near(at[-1], known)}"
    if kind == "missing":
        return "is missing, and there is no default"
    if kind in ("model_type", "dict_type"):
        return _table(fields(at, model))
    if kind in ("too_short", "too_long"):
        bound, n = ("at least", ctx["min_length"]) if kind == "too_short" else ("at most", ctx["max_length"])
        return f"must have {bound} {n} {'entry' if n == 1 else 'entries'}, and has {ctx['actual_length']}"
    if kind in TYPES:
        hint = kind == "string_type" and isinstance(one["input"], bool)
        return f"must be {TYPES[kind]}" + f"; {quoted(one['input'])}" * hint
    said = str(one["msg"]).removeprefix("Value error, ").replace("Input should", "must")
    allowed = re.findall(r"'([^']*)'", str(ctx.get("expected", "")))
    return said + (near(one["input"], allowed) if isinstance(one["input"], str) else "")


def _table(known: list[str]) -> str:
    if known == ["class_path", "args"]:
        return "must be {class_path: ..., args: {...}}: the class, and its arguments by name"
    return f"must be a table with the keys {', '.join(known)}" if known else "must be a table of names"
