"""What the sampler mended in each set, as rates in words, shared by page, datasheet and model card."""

from __future__ import annotations

from typing import Any

from fedsynth.data.mends import AGAIN, EMPTIED, MEANING
from fedsynth.worth.wording import Facts, is_number

TITLES = {EMPTIED: "masks emptied", AGAIN: "images drawn again"}


def table(facts: Facts) -> list[dict[str, Any]]:
    """Return a line for each rate: {"title", "text", "cells": {model: "29 % (29 of 100)"}}; none if no set has one."""
    known = [mends for of in facts.values() if (mends := of.get("mends"))]
    without = ", ".join(known[0]["labels"]) if known else ""
    lines = [
        {
            "name": name,
            "title": TITLES[name],
            "text": MEANING[name].format(without=without),
            "cells": {model: cell(name, of.get("mends")) for model, of in facts.items()},
        }
        for name in MEANING
    ]
    return lines if known else []


def cell(name: str, mends: dict[str, Any] | None) -> str:
    """Return one rate with its counts, "missing" if it is not known."""
    if mends is None or not is_number(mends["rates"][name]):
        return "missing"
    counts = mends["counts"]
    of = counts["without"] if name == EMPTIED else counts["with"] + counts[AGAIN]
    return f"{100 * mends['rates'][name]:.3g}\N{NO-BREAK SPACE}% ({counts[name]} of {of})"


def sentences(model: str, facts: dict[str, Any]) -> list[str]:
    """Return the rates of one set as sentences."""
    return [f"{of['title']}: {of['cells'][model]} {of['text']}" for of in table({model: facts})]
