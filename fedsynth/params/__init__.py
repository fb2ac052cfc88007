"""params.yaml as pydantic models. Misspelt keys and arguments are errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError, field_validator, model_validator

from fedsynth.params.block import Block, ParamsError, Seed, Strict
from fedsynth.params.image import MOST_LAST, Conversion, Derived, GridRule, Image, Scale
from fedsynth.params.model import Compression, Model, Training
from fedsynth.params.problems import invalid, of_error
from fedsynth.params.reading import raw
from fedsynth.params.study import Audit, Centre, Consortium, Expectations, Gates, Promote, Sample, Score, Split

__all__ = [
    "MOST_LAST",
    "Audit",
    "Block",
    "Centre",
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
    "Promote",
    "Sample",
    "Scale",
    "Score",
    "Split",
    "Strict",
    "Training",
    "centre",
    "keep_runs",
    "load",
    "study_of",
]

CANARIES = "fedsynth.measures.canaries.Canaries"
Checked = TypeVar("Checked", bound=BaseModel)


class Params(Centre):
    seed: Seed = 1
    consortium: Consortium = Consortium()
    source: Block
    image: Image
    split: Split = Split()
    expectations: Expectations = Expectations()
    models: dict[str, Model]
    sample: Sample = Sample()
    score: Score
    audit: Audit = Audit()
    gates: Gates = Gates()

    @field_validator("models")
    @classmethod
    def _names(cls, models: dict[str, Model]) -> dict[str, Model]:
        said = "it becomes a folder and a registered name: letters (without accents), digits and _ alone, 80 at most"
        wrong = [((name,), None, said) for name in models if not re.fullmatch("[A-Za-z0-9_]{1,80}", name)]
        if wrong:
            raise invalid("models", wrong)
        return models

    @model_validator(mode="after")
    def _canaries_are_looked_for(self) -> Params:
        if self.audit.canaries:
            self.score.measures.setdefault("canaries", Block(class_path=CANARIES))
        return self

    def seeded(self, own: int | None) -> Params:
        """Return these params with a model's own seed in the place of the study's, which holds where it has none."""
        return self if own is None else self.model_copy(update={"seed": own})

    def trainings(self) -> list[list[str]]:
        """Return the models that are trainings of one model, two or more: their blocks differ in `seed` alone.

        Of blocks with the same seed only the first counts: they are the same training.
        """
        alike: dict[str, dict[int, str]] = {}
        for name, model in self.models.items():
            of = alike.setdefault(model.model_dump_json(exclude={"seed"}), {})
            of.setdefault(self.seeded(model.seed).seed, name)
        return [list(of.values()) for of in alike.values() if len(of) > 1]


def load(path: str | Path = "params.yaml") -> Params:
    """Return the params of a file. Raises ParamsError with the file, each invalid key, and what is wrong with it."""
    return _checked(Params, raw(Path(path)), path)


def centre(root: Path) -> Centre:
    """Return the keys of a project's params.yaml that are the centre's own; its others are not looked at.

    Raises ParamsError if the file is not there, cannot be read, or one of these keys is wrong.
    """
    path = root / "params.yaml"
    content = raw(path)
    own = {key: content[key] for key in Centre.model_fields if key in content} if isinstance(content, dict) else {}
    return _checked(Centre, own, path)


def study_of(root: Path) -> str:
    """Return the name of a project's study; the default where there is no params.yaml, as where a model is served."""
    return _centre_or_default(root).study


def keep_runs(root: Path) -> int:
    """Return of how many runs a project keeps what they have left; the default where there is no params.yaml."""
    return _centre_or_default(root).keep_runs


def _centre_or_default(root: Path) -> Centre:
    return centre(root) if (root / "params.yaml").is_file() else Centre()


def _checked(kind: type[Checked], content: Any, path: str | Path) -> Checked:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        lines = [f"{path}: {problem}" for problem in of_error(content, error, kind)]
        raise ParamsError("\n".join(lines)) from error
