"""Comparison of values in params.yaml with the type hints of constructors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

UNIONS = (Union, UnionType)
WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    NoneType: "null",
    dict: "a table of names",
}


def fits(hint: Any, value: Any, within: bool = False) -> bool:
    """Return whether a value has the type: number, text, bool, null, or a list or table of these.

    Other types are not checked. `within`: inside a list or table, where a number is accepted for a text, because YAML
    reads a name like 1 as a number.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in UNIONS:
        return any(fits(of, value, within) for of in inner)
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and _all_fit(origin, inner, value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(inner[1], of, within=True) for of in value.values())
    plain: dict[Any, Callable[[], bool]] = {
        int: lambda: type(value) is int,  # not isinstance: a bool is an int
        float: lambda: type(value) in (int, float),
        str: lambda: type(value) in ((str, int, float) if within else (str,)),
        bool: lambda: type(value) is bool,
        NoneType: lambda: value is None,
        dict: lambda: isinstance(value, dict),
    }
    return plain.get(hint, lambda: True)()


def _all_fit(origin: Any, inner: tuple[Any, ...], values: Sequence[Any]) -> bool:
    if origin is tuple and inner[1:] != (...,):
        return len(values) == len(inner) and all(map(fits, inner, values))
    return all(fits(inner[0], value, within=True) for value in values)


def misfits(hint: Any, value: Any, key: str, within: bool = False) -> Iterator[tuple[str, Any, str]]:
    """Yield the values of the wrong type with their keys and what they must be; tables are searched."""
    if fits(hint, value, within):
        return
    members = get_args(hint) if get_origin(hint) in UNIONS else (hint,)
    tables = [of for of in members if get_origin(of) is dict]
    if tables and isinstance(value, dict):
        for name, of in value.items():
            yield from misfits(get_args(tables[0])[1], of, f"{key}.{name}", within=True)
    else:
        yield key, value, f"must be {words(hint)}"


def words(hint: Any) -> str:
    """Return the type in words: "a list, each a whole number"."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in UNIONS:
        return " or ".join(map(words, inner))
    if origin is tuple and inner[1:] != (...,):
        return f"a list of {len(inner)}: {', '.join(map(words, inner))}"
    if origin in (list, tuple, Sequence):
        return f"a list, each {words(inner[0])}"
    return WORDS.get(origin or hint, "what the class's docstring says")
