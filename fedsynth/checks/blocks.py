"""Checks of a `{class_path, args}` block: whether its class accepts the arguments."""

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

Context = dict[str, Any]  # arguments that this package provides to constructors which have them by name
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def sound(key: str, kind: str, block: Block, context: Context) -> list[Problem]:
    """Return the problems that can be found without building the block."""
    cls, said = find(kind, block.class_path)
    if cls is None:
        return [Problem(f"{key}.class_path", block.class_path, said)]
    return [*_arguments(key, cls, block.args, context), *_nested(key, kind, block.args, context)]


def built(key: str, kind: str, block: Block, context: Context) -> tuple[Any, list[Problem]]:
    """Return the block's object, None if it cannot be built, and the problems."""
    if problems := sound(key, kind, block, context):
        return None, problems
    try:
        return block.build(**context), []
    except Exception as error:  # constructors may raise any exception
        return None, refused(key, block, error)


def refused(key: str, block: Block, error: BaseException) -> list[Problem]:
    """Return an exception of a block's class as problems.

    The key is that of the argument which the message names, or begins with; otherwise that of the block.
    """
    if isinstance(error, ArgumentsError):
        return error.under(key)
    said = _message(block, error)
    # messages of sources say "source" also for `sample.given`
    if named := re.search(r"\bsource((?:\.[\w-]+)+)", said):
        said = said.removeprefix(f"{named[0]}: ")
        return [Problem(key + named[1], _at(block.args, named[1]), said)]
    # a message about several arguments: "latent (0) must be 1 or more, sigma (0.2) above 0"
    if len([name for name in re.findall(r"(\w+) \(", said) if name in block.args]) > 1:
        return [Problem(f"{key}.args", None, said)]
    first = re.match(r"\w*", said)
    if first and first[0] in block.args:
        return [Problem(f"{key}.args.{first[0]}", block.args[first[0]], said)]
    return [Problem(key, block.class_path, said)]


def _message(block: Block, error: BaseException) -> str:
    """Return the exception's message; for one that is not about the arguments, with the class that failed."""
    name = block.class_path.rpartition(".")[2]
    if isinstance(error, AttributeError) and error.name and inspect.ismodule(error.obj):  # an optimizer of torch.optim
        return f"{error}{near(error.name, dir(error.obj))}"
    if isinstance(error, ValueError | ImportError) and str(error):
        return str(error)
    return f"{name} fails with these arguments, {type(error).__name__}: {error}; see the docstring of {name}"


def _at(args: Any, path: str) -> Any:
    """Return the argument at a path like ".args.sites.north"."""
    for part in path.split(".")[2:]:
        args = args.get(part) if isinstance(args, dict) else None
    return args


def _nested(key: str, kind: str, args: dict[str, Any], context: Context) -> Iterator[Problem]:
    """Yield the problems of blocks in the arguments; they are of the same kind, as in a latent diffusion."""
    for name, value in args.items():
        if isinstance(value, dict) and isinstance(value.get("class_path"), str):
            inner = Block.model_construct(class_path=value["class_path"], args=value.get("args") or {})
            yield from sound(f"{key}.args.{name}", kind, inner, context)


def _arguments(key: str, cls: type, args: dict[str, Any], context: Context) -> Iterator[Problem]:
    """Yield unknown arguments, values of the wrong type, and missing arguments."""
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
    """Return the type hints of the constructor, none if they cannot be resolved."""
    try:
        return typing.get_type_hints(cls.__init__)  # type: ignore[misc]
    except NameError:  # a type is imported for type checkers only
        return {}


def _text(value: Any) -> str:
    """Return a hint for a number that YAML reads as a text, such as 1e-3; "" for other values."""
    number = isinstance(value, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value)
    return "; YAML takes a number in quotes, or one like 1e-3 without a dot, for a text: write 1.0e-3" if number else ""
