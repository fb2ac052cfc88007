"""params.yaml as pydantic models. Misspelt keys and arguments are errors."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, ValidationError, field_validator

from fedsynth.params.block import Block, ParamsError, Strict
from fedsynth.params.image import MOST_LAST, Conversion, Derived, GridRule, Image, Scale
from fedsynth.params.model import Compression, Model, Training
from fedsynth.params.problems import invalid, of_error
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
        said = "it becomes a folder and a registered name: letters (without accents), digits and _ alone, 80 at most"
        wrong = [((name,), None, said) for name in models if not re.fullmatch("[A-Za-z0-9_]{1,80}", name)]
        if wrong:
            raise invalid("models", wrong)
        return models


def load(path: str | Path = "params.yaml") -> Params:
    """Return the params of a file. Raises ParamsError with the file, each invalid key, and what is wrong with it."""
    content = raw(Path(path))
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        lines = [f"{path}: {problem}" for problem in of_error(content, error, Params)]
        raise ParamsError("\n".join(lines)) from error
