"""Checks one `{class_path, args}` block against its class: whether it takes these arguments, and the reason if it
does not.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any

from fedsynth.checks.classes import find
from fedsynth.checks.types import misfits, words
from fedsynth.params import Block
from fedsynth.params.names import quoted
from fedsynth.params.near import near, nearest
from fedsynth.params.problems import ArgumentsError, Problem

Context = dict[str, Any]  # what our code knows and a constructor may ask for by name
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def sound(key: str, kind: str, block: Block, context: Context) -> list[Problem]:
    """What can be said of a block without building it."""
    cls, said = find(kind, block.class_path)
    if cls is None:
        return [Problem(f"{key}.class_path", block.class_path, said)]
    return [*_arguments(key, cls, block.args, context), *_nested(key, kind, block.args, context)]


def built(key: str, kind: str, block: Block, context: Context) -> tuple[Any, list[Problem]]:
    """The object that a block makes, None where it makes none."""
    if problems := sound(key, kind, block, context):
        return None, problems
    try:
        return block.build(**context), []
    except Exception as error:  # a constructor may raise anything, and its sentence says best what it wants
        return None, refused(key, block, error)


def refused(key: str, block: Block, error: BaseException) -> list[Problem]:
    """What a class said against what it was given; at the argument that its sentence names or begins with, if any."""
    if isinstance(error, ArgumentsError):
        return error.under(key)
    said = (str(error) or type(error).__name__) + _attribute(error)
    if named := re.search(r"\bsource((?:\.[\w-]+)+)", said):  # as sources call themselves, also those of `sample.given`
        said = said.removeprefix(f"{named[0]}: ")
        return [Problem(key + named[1], _at(block.args, named[1]), said)]
    listed = [name for name in re.findall(r"(\w+) \(", said) if name in block.args]  # "latent (0) must be 1 or more, …"
    if listed[1:]:
        return [Problem(f"{key}.args", None, said)]
    first = re.match(r"\w*", said)
    if first and first[0] in block.args:
        return [Problem(f"{key}.args.{first[0]}", block.args[first[0]], said)]
    return [Problem(key, block.class_path, said)]


def _attribute(error: BaseException) -> str:
    """The nearest name where a class looked for one in a package: an optimiser of torch.optim."""
    of_module = isinstance(error, AttributeError) and error.name and inspect.ismodule(error.obj)
    return near(error.name, dir(error.obj)) if of_module else ""  # type: ignore[attr-defined]


def _at(args: Any, path: str) -> Any:
    """What stands at ".args.sites.north" in the arguments."""
    for part in path.split(".")[2:]:
        args = args.get(part) if isinstance(args, dict) else None
    return args


def _nested(key: str, kind: str, args: dict[str, Any], context: Context) -> Iterator[Problem]:
    """A block among the arguments is of the same kind: the diffusion of a latent diffusion."""
    for name, value in args.items():
        if isinstance(value, dict) and isinstance(value.get("class_path"), str):
            inner = Block.model_construct(class_path=value["class_path"], args=value.get("args") or {})
            yield from sound(f"{key}.args.{name}", kind, inner, context)


def _arguments(key: str, cls: type, args: dict[str, Any], context: Context) -> Iterator[Problem]:
    """Names that the class has not, values of another type than it says, and what it cannot do without."""
    parameters, hints = inspect.signature(cls).parameters, _hints(cls)
    own = [name for name, of in parameters.items() if name not in context and of.kind in NAMED]
    for name, value in args.items():
        if name in own:
            for at, wrong, said in misfits(hints.get(name), value, f"{key}.args.{name}"):
                yield Problem(at, wrong, said + (f"; {quoted(wrong)}" if type(wrong) is bool else _text(wrong)))
        elif name in parameters:
            yield Problem(f"{key}.args.{name}", value, "is known from the rest of params.yaml; take it out here")
        elif name in (gone := getattr(cls, "GONE", {})):
            yield Problem(f"{key}.args.{name}", value, f"this argument is gone: {gone[name]}")
        else:
            takes = f"it takes {', '.join(own)}" if own else "it takes none"
            yield Problem(f"{key}.args.{name}", value, f"is no argument of {cls.__name__}; {takes}{near(name, own)}")
    there = {*args, *(nearest(name, own) for name in args if name not in own)}
    for name in own:
        if parameters[name].default is inspect.Parameter.empty and name not in there:
            said = f"is missing, and {cls.__name__} cannot do without; it must be {words(hints.get(name))}"
            yield Problem(f"{key}.args.{name}", None, said)


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls.__init__)  # type: ignore[misc]
    except NameError:  # of a type that is imported for a type checker alone: the constructor itself has to say
        return {}


def _text(value: Any) -> str:
    """YAML's own trap: 1e-3 is a text to it."""
    number = isinstance(value, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value)
    return "; YAML takes a number in quotes, or one like 1e-3 without a dot, for a text: write 1.0e-3" if number else ""
