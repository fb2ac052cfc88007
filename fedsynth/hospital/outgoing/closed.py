"""Field types of outgoing answers: finite numbers and names from a closed set, so that no row, file or pixel fits
in.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from fedsynth.errors import UserError
from fedsynth.validation.hints import HINTS


class LeakError(UserError):
    """Something else than what may leave was about to. The message names the key, never the value: it may travel in a
    log.
    """


class Diverged(LeakError):
    """An update holds NaN or Inf: the training diverged."""


def _known(text: str, info: ValidationInfo) -> str:
    """A name of params.yaml or of our code, whatever its characters; where nobody says which there are, a plain one."""
    known = (info.context or {}).get("known")
    if known is not None and text not in known:
        raise ValueError("is not one of the names that the job knows")
    if known is None and not re.fullmatch(r"[A-Za-z0-9_.-]{1,80}", text):
        raise ValueError("is not a plain name")
    return text


# Numbers are plain and finite, names come from a closed set, and no text is free: nothing here can carry a row, a file
# or a pixel.
Count = Annotated[int, Field(ge=0, le=10**9)]
Cell = Count | Annotated[str, Field(pattern=r"^< [0-9]{1,4}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_known)]
Expectation = Annotated[
    str, AfterValidator(lambda text: text if text in HINTS else refuse("is not the name of an expectation"))
]
Kind = Literal["local", "federated", "pooled", "synthetic", "augmented", "public"]  # rows of the table of worth
Sha256 = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
Few = Field(max_length=64)  # a table of numbers with more entries than any job has could be an image


def refuse(why: str) -> Any:
    raise ValueError(why)


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class Counted(Closed):
    """Holds numbers that rest on images: too few of them say too much of each."""

    def withheld(self, min_cell: int) -> None:
        raise NotImplementedError
