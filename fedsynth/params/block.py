"""Block: `{class_path, args}` of params.yaml, which builds an object of a class of this package."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fedsynth.params.errors import ParamsError
from fedsynth.params.near import near
from fedsynth.params.problems import invalid

__all__ = ["Block", "ParamsError", "Seed", "Strict"]

Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truths(cls, said: Any) -> Any:
        """Refuse true and false for numbers, because pydantic converts them to 1 and 0."""
        given = said if isinstance(said, dict) else {}
        if strange := [name for name in _numbers_only(cls) if name in given and _has_truth(given[name])]:
            raise invalid(cls.__name__, [((name,), given[name], "must be a number") for name in strange])
        return said


class Block(Strict):
    """`{class_path, args}`: a call of a class of this package, written in params.yaml."""

    class_path: str
    args: dict[str, Any] = Field(default_factory=dict)

    @field_validator("class_path")
    @classmethod
    def _ours(cls, path: str) -> str:
        if not path.startswith("fedsynth.") or not all(part.isidentifier() for part in path.split(".")):
            raise ValueError("is not under 'fedsynth.', and only this package's classes may be named")
        return path

    @field_validator("args")
    @classmethod
    def _finite(cls, args: dict[str, Any]) -> dict[str, Any]:
        said = "must be finite: no .inf and no .nan"
        wrong = [((name,), value, said) for name, value in args.items() if not all(map(math.isfinite, _numbers(value)))]
        if wrong:
            raise invalid("args", wrong)
        return args

    def build(self, **context: Any) -> Any:
        """Return the object. `context`: arguments that this package provides, such as sizes and labels; the class
        gets those that its constructor has by name.

        Raises ParamsError for an unknown class or argument, with the nearest known name.
        """
        module_name, _, class_name = self.class_path.rpartition(".")
        try:
            cls = getattr(importlib.import_module(module_name), class_name)
            # only classes that the module defines: `fedsynth.params.Path` is imported there
            if not (inspect.isclass(cls) and cls.__module__.startswith("fedsynth.")):
                raise AttributeError(f"{module_name} has no class {class_name} of its own")
        except (ModuleNotFoundError, AttributeError) as error:
            if isinstance(error, ModuleNotFoundError) and not module_name.startswith(error.name or "?"):
                raise  # a package that the class needs is not installed
            raise ParamsError(f"class_path {self.class_path!r} does not exist ({error})") from error
        known = [n for n in inspect.signature(cls).parameters if n not in ("args", "kwargs")]
        for name in self.args:
            if name not in known and name in (gone := getattr(cls, "GONE", {})):
                raise ParamsError(f"{self.class_path}: the argument {name} is gone: {gone[name]}")
            if name not in known:
                raise ParamsError(
                    f"{self.class_path} has no argument {name!r}{near(name, known)} (it has: {', '.join(known)})"
                )
        return cls(**{k: v for k, v in context.items() if k in known}, **self.args)


@cache
def _numbers_only(cls: type[BaseModel]) -> list[str]:
    """Return the fields that hold numbers and no true or false."""
    annotations = {name: of.annotation for name, of in cls.model_fields.items()}
    return [name for name, of in annotations.items() if _mentions(of, int, float) and not _mentions(of, bool)]


def _mentions(annotation: Any, *types: type) -> bool:
    """Return whether an annotation has one of these types, also as an entry of a list or table."""
    return annotation in types or any(_mentions(inner, *types) for inner in get_args(annotation))


def _has_truth(value: Any) -> bool:
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, bool) or any(map(_has_truth, within))


def _numbers(value: Any) -> Iterator[float]:
    """Yield all numbers in an argument."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _numbers(inner)
