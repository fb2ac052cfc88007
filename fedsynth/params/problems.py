"""Problem, a mistake in params.yaml by its key; pydantic's validation errors as such, with the nearest name."""

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
Wrong = tuple[Place, Any, str]  # where, what stands there, what is wrong with it
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
OF_TYPE = ("_type", "_parsing", "literal_error")  # how pydantic's errors end that are of a value of another type


@dataclass(frozen=True)
class Problem:
    """`key` as in params.yaml, "models.vae.training.lr"; `said`: what is wrong, what is allowed, the nearest name."""

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
    """All that a source has against its arguments, and against `image`: `problems`, with keys below its `args` or
    below params.yaml, "image.channels".
    """

    def __init__(self, problems: Sequence[Problem]):
        self.problems = list(problems)
        super().__init__("\n".join(map(str, self.under("source"))))

    def under(self, key: str) -> list[Problem]:
        """As of the source at `key`."""
        return [p if p.key.startswith("image.") else replace(p, key=f"{key}.args.{p.key}") for p in self.problems]


def parsed(model: type[Model], value: Any, key: str, context: Any = None) -> tuple[Model | None, list[Problem]]:
    """A part of a source's arguments as a pydantic model, None where it is wrong; and its mistakes.

    `key`: where it stands below `args`; `context`: what the model's validators may look at.
    """
    try:
        return model.model_validate(value, context=context), []
    except ValidationError as error:
        found = of_error(value, error, model)
        return None, [replace(p, key=f"{key}.{p.key}" if p.key else key) for p in found]


def argument(model: type[Model], value: Any, key: str) -> Model:
    """The same where there is nothing else to look at. Raises ArgumentsError with all that is wrong."""
    made, wrong = parsed(model, value, key)
    if made is None:
        raise ArgumentsError(wrong)
    return made


def invalid(title: str, wrong: Iterable[Wrong]) -> ValidationError:
    """The error by which a validator tells several mistakes; each place begins at what it validates."""
    # the sentence is an argument: in the template itself { and } would be places to fill in
    details = [
        InitErrorDetails(type=PydanticCustomError("value_error", "{said}", {"said": said}), loc=at, input=value)
        for at, value, said in wrong
    ]
    return ValidationError.from_exception_data(title, details)


def twice(entries: list[Entry]) -> list[Entry]:
    """The entries as they are. Raises ValidationError for each that was there before."""
    again = [((n,), entry, "is named twice; name each once") for n, entry in enumerate(entries) if entry in entries[:n]]
    if again:
        raise invalid("list", again)
    return entries


Once = Annotated[list[Entry], AfterValidator(twice)]  # Once[int]: a list whose entries differ
Names = Once[str]


def unknown(key: str, names: Iterable[str], known: Collection[str], said: str) -> Iterator[Wrong]:
    """The entries of a list that are none of the known names; `said` ends before these."""
    for n, name in enumerate(names):
        if name not in known:
            yield (key, n), name, f"{said} {those(name, known)}"


def those(name: str, known: Collection[str]) -> str:
    """ "t1, t2, lesion; did you mean 'lesion'?" """
    return f"{', '.join(known) or '(none)'}{near(name, known)}"


def of_error(raw: Any, error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Every mistake in what `raw` should be: a `model`. Of a union every member complains: those count first that took
    the value's type, and what lies deepest.
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
    """As in params.yaml; an entry of a list is known by its value."""
    return ".".join(map(str, at[:-1] if at and isinstance(at[-1], int) else at))


def _one(found: list[tuple[bool, str]]) -> str:
    closest = [said for of_type, said in found if not of_type] or [said for _, said in found]
    return "; or ".join(dict.fromkeys(closest))


def place(raw: Any, loc: Place) -> Place:
    """Where in the file an error is: without the members of unions, which pydantic names between the keys."""
    at: Place = ()
    for part in loc:
        at = (*at, part) if holds(value(raw, at), part) else at
    return at


def _key(raw: Any, one: Any, model: type[BaseModel]) -> Place:
    """The place of an error; the key itself where it is missing, or where a sentence about more begins with it."""
    at = place(raw, one["loc"])
    if one["type"] == "missing":
        return (*at, one["loc"][-1])
    first = re.match(r"\w*", str(one["msg"]).removeprefix("Value error, "))
    return (*at, first[0]) if one["type"] == "value_error" and first and first[0] in fields(at, model) else at


def holds(at: Any, part: str | int) -> bool:
    return part in at if isinstance(at, dict) else isinstance(at, list) and isinstance(part, int) and part < len(at)


def value(raw: Any, at: Place) -> Any:
    """What stands at a place of the file, None where nothing does."""
    for part in at:
        raw = raw[part] if holds(raw, part) else None
    return raw


def fields(at: Place, model: type[BaseModel]) -> list[str]:
    """The keys that a `model` may have at a place; none where they are names that a person chooses."""
    models: list[Any] = [model]
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


def meant_by(raw: Any, one: Any, model: type[BaseModel]) -> str:
    """The key that an unknown one is likely meant to be, "" where it is not plain."""
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
