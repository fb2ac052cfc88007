"""Question: what a job asks of the site, as the policy looks at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Question:
    """What a job asks of the site.

    `job`: its kind; `config`: as the job carries it; `submitter`: who has sent it, "" if FLARE does not say (as in the
    simulator).
    """

    job: str
    config: dict[str, Any]
    submitter: str = ""
    rows: Any = None  # the site's manifest, None where there is none yet
    min_cell: int = 5
    arrays: dict[str, Any] = field(default_factory=dict)
