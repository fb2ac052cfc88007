"""Whether a value of params.yaml has the type that the constructor's annotation asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    NoneType: "null",
    dict: "a table of names",
}


def fits(hint: Any, value: Any) -> bool:
    """Numbers, texts, null and lists of them; a table is not looked into. Any other type fits: a set of words, say."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(of, value) for of in inner)
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and _all_fit(origin, inner, value)
    plain: dict[Any, Callable[[], bool]] = {
        int: lambda: type(value) is int,  # a bool is another type in params.yaml
        float: lambda: type(value) in (int, float),
        str: lambda: type(value) is str,
        bool: lambda: type(value) is bool,
        NoneType: lambda: value is None,
        dict: lambda: isinstance(value, dict),
    }
    return plain.get(origin or hint, lambda: True)()


def _all_fit(origin: Any, inner: tuple[Any, ...], values: Sequence[Any]) -> bool:
    if origin is tuple and inner[1:] != (...,):
        return len(values) == len(inner) and all(map(fits, inner, values))
    return inner[0] is str or all(fits(inner[0], value) for value in values)  # sources make texts of numbers in a list


def words(hint: Any) -> str:
    """The same in words: "a list, each a whole number"."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(map(words, inner))
    if origin is tuple and inner[1:] != (...,):
        return f"a list of {len(inner)}: {', '.join(map(words, inner))}"
    if origin in (list, tuple, Sequence):
        return f"a list, each {words(inner[0])}"
    return WORDS.get(origin or hint, "what the class's docstring says")
