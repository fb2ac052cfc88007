"""Outgoing answers of `validate` and `source`, and of a job that failed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from fedsynth.hospital.failures import FAILURES
from fedsynth.hospital.outgoing.closed import Cell, Closed, Expectation, Few, Name, Sha256, refuse


class Failed(Closed):
    expectation: Expectation
    count: Cell | Literal["withheld"]


class Validate(Closed):
    """The verdict; every count in it is at least the smallest cell, or withheld."""

    passed: bool
    digest: Sha256
    images: Cell
    failed: list[Failed] = Few
    warnings: list[Failed] = Few
    counts: Annotated[dict[Name, dict[Literal["train", "val", "test"], Cell]], Few]

    @model_validator(mode="after")
    def _cells(self, info: ValidationInfo) -> Validate:
        found = [
            self.images,
            *(f.count for f in self.failed + self.warnings),
            *(n for c in self.counts.values() for n in c.values()),
        ]
        least = (info.context or {})["min_cell"]
        if any(isinstance(n, int) and n < least for n in found):
            raise ValueError(f"holds a count below {least}")
        return self


class Look(Closed):
    """What a site's data look like now: their digest, nothing where there are none; and the digests of its earlier sets
    that held a patient who has withdrawn since.
    """

    digest: Sha256
    withdrawn: list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(default_factory=list, max_length=64)


class Failure(Closed):
    """Of any job that cannot be done at this site."""

    failure: Annotated[
        str, AfterValidator(lambda text: text if text in FAILURES else refuse("is not a word for a failure"))
    ]
