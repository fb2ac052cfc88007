"""The report's tables of several trainings of one model, for page, text and programs."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fedsynth.params import Params
from fedsynth.worth.trainings import Together, gated, together
from fedsynth.worth.wording import Facts, is_number, measured


def tables(params: Params, facts: Facts) -> list[dict[str, Any]]:
    """Return {"models", "lines"} for each two or more trainings of one model.

    A line is {"name", "mean", "interval", "each": a value for each of `models`}.
    """
    return [
        {"models": list(models), "lines": [_line(of) for of in numbers]}
        for models, numbers in gated(params, facts).items()
    ]


def _line(of: Together) -> dict[str, Any]:
    low, high = ("no bound" if end is None else measured(end) for end in (of.low, of.high))
    interval = f"{low} to {high}" if is_number(of.low) or is_number(of.high) else "not known"
    return {"name": of.name, "mean": measured(of.mean), "interval": interval, "each": [measured(v) for v in of.each]}


def frame(params: Params, facts: Facts) -> pd.DataFrame:
    """Return all numbers of all trainings as a long table: models, number, trainings, mean, low, high."""
    rows = [(" ".join(models), of.name, len(models), of.mean, of.low, of.high)
            for models, numbers in together(params, facts).items() for of in numbers]  # fmt: skip
    return pd.DataFrame(rows, columns=["models", "number", "trainings", "mean", "low", "high"])
