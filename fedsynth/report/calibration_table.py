"""The report's table of calibration by site, class, sex and age band, with the worst group of each set."""

from __future__ import annotations

from typing import Any

from fedsynth.worth.calibration import BY, Entry, said, worst
from fedsynth.worth.wording import Facts, is_number

TITLES = {"site": "all test images", "sex": "sex", "age": "age"}


def calibration(use: str, facts: Facts) -> dict[str, Any]:
    """Return {"use", "reference", "lines", "worst"}; a line is {"site", "group", "cells": {model: cell}, "beside"}.

    A cell is {"value", "interval", "n", "worst"}; `beside` is that of the reference on real images. No line without
    entries of the use.
    """
    own = {model: _entries(of, use, ("synthetic",)) for model, of in facts.items()}
    beside = next((found for of in facts.values() if (found := _entries(of, use, ("pooled", "federated")))), [])
    keys = dict.fromkeys(_key(of) for found in own.values() for of in found)
    highest = {model: worst(found) for model, found in own.items()}
    lines = [
        {
            "site": key[0],
            "group": _group(key),
            "cells": {model: _cell(_find(found, key), highest[model]) for model, found in own.items()},
            "beside": _cell(_find(beside, key), None),
        }
        for key in sorted(keys, key=lambda key: BY.index(key[1]))
    ]
    return {
        "use": use,
        "reference": beside[0]["name"] if beside else "",
        "lines": lines,
        "worst": {model: sentence(of) for model, of in highest.items() if of is not None},
    }


def sentence(of: Entry) -> str:
    """Return the worst group in words: "none at north (0.21, 95 % 0.12 to 0.30, n = 22)"."""
    around = f", 95 % {of['low']:.2f} to {of['high']:.2f}" if is_number(of["low"]) and is_number(of["high"]) else ""
    return f"{said(of)} ({of['value']:.2f}{around}, n = {of['n']})"


def _entries(of: dict[str, Any], use: str, kinds: tuple[str, ...]) -> list[Entry]:
    return [entry for entry in of.get("calibration") or [] if entry["use"] == use and entry["name"] in kinds]


def _key(of: Entry) -> tuple[str, str, str]:
    return of["site"], of["by"], of["group"]


def _find(entries: list[Entry], key: tuple[str, str, str]) -> Entry | None:
    return next((of for of in entries if _key(of) == key), None)


def _group(key: tuple[str, str, str]) -> str:
    by, group = key[1:]
    return TITLES["site"] if by == "site" else group if by == "class" else f"{TITLES[by]} {group}"


def _cell(of: Entry | None, highest: Entry | None) -> dict[str, Any]:
    if of is None:
        return {"value": "missing", "interval": "", "n": "", "worst": False}
    both = is_number(of["low"]) and is_number(of["high"])
    return {
        "value": f"{of['value']:.2f}"
        if is_number(of["value"])
        else "withheld"
        if isinstance(of["n"], str)
        else "missing",
        "interval": f"{of['low']:.2f} to {of['high']:.2f}" if both else "",
        "n": of["n"],
        "worst": highest is not None and _key(of) == _key(highest),
    }
