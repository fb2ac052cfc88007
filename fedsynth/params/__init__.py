"""params.yaml as pydantic models. A misspelt key or argument is an error that names it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from fedsynth.params.block import Block, ParamsError, Strict
from fedsynth.params.image import MOST_LAST, Conversion, Derived, GridRule, Image, Scale
from fedsynth.params.model import Compression, Model, Training
from fedsynth.params.problems import QUOTE
from fedsynth.params.reading import raw
from fedsynth.params.study import Consortium, Expectations, Gates, Sample, Score, Split

__all__ = [
    "MOST_LAST",
    "Block",
    "Compression",
    "Consortium",
    "Conversion",
    "Derived",
    "Expectations",
    "Gates",
    "GridRule",
    "Image",
    "Model",
    "Params",
    "ParamsError",
    "Sample",
    "Scale",
    "Score",
    "Split",
    "Strict",
    "Training",
    "load",
]


class Params(Strict):
    seed: int = Field(1, ge=0, lt=2**63)
    consortium: Consortium = Consortium()
    source: Block
    image: Image
    split: Split = Split()
    expectations: Expectations = Expectations()
    models: dict[str, Model]
    sample: Sample = Sample()
    score: Score
    gates: Gates = Gates()

    @field_validator("models")
    @classmethod
    def _names(cls, models: dict[str, Model]) -> dict[str, Model]:
        for name in models:
            if not re.fullmatch("[A-Za-z0-9_]{1,80}", name):
                raise ValueError(
                    f"model name {name!r} may hold letters (without accents), digits and _ only: it becomes a folder and"
                    " a registered name"
                )
        return models


def load(path: str | Path = "params.yaml") -> Params:
    """Read and check a params file. Raises ParamsError with the file, the key and what is wrong with it."""
    path = Path(path)
    try:
        return Params.model_validate(raw(path))
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(map(str, e['loc']))}: {_plain(e)}" for e in error.errors()]
        raise ParamsError("\n".join(lines)) from error


def _plain(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown key; check its spelling"
    if error["type"] == "string_type" and isinstance(error["input"], bool):
        return f"must be a text, not {error['input']}{QUOTE}"
    return str(error["msg"]).removeprefix("Value error, ")
