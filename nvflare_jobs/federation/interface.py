"""Federation: the interface of all modes to run FLARE jobs (submit, follow, collect, abort, close), and its errors."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

# prefixes of the statuses that are shown to the user as warnings
LOST, WHOLE, WAITING = "the job was lost", "the result is whole", "waiting for"
NOTABLE = (LOST, WHOLE, WAITING)


class FederationError(RuntimeError):
    """A job failed; the message is the reason in one line."""


class JobLost(FederationError):
    """A job is gone; a new job with the same content continues from the state that server and sites keep.

    Its server was restarted, a site that had gone is back, or a site's process died, at which FLARE ends the whole job
    whatever the quorum. A site whose process dies repeatedly reports that in the next job (nvflare_jobs/site/site.py).
    """


@dataclass(frozen=True)
class Event:
    """An event of a running job.

    `kind` is "job" (`status` is its id), "status" or "round" (`sites` has each site's metrics by name).
    """

    kind: str
    status: str = ""
    round: int = -1
    sites: dict[str, dict[str, float]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)  # site -> why its update is not in this round
    bounded: dict[str, str] = field(default_factory=dict)  # site -> what was done to its update in this round
    seconds: float = 0.0
    # site -> bytes of this round by kind (nvflare_jobs/server/traffic.py)
    traffic: dict[str, dict[str, int]] = field(default_factory=dict)
    resumed: bool = False  # the first round of a job that continues an earlier one

    @classmethod
    def of(cls, record: dict[str, Any]) -> Event:
        """Create a round event from a record of the round log."""
        return cls("round", **{name: value for name, value in record.items() if name in cls.__dataclass_fields__})


class Federation(ABC):
    """Runs jobs in one mode. Used as a context manager: however the block ends, no process of ours is left."""

    @abstractmethod
    def sites(self) -> list[str] | None:
        """Return the sites connected now, None where that is not known (simulated sites start with the job)."""

    @abstractmethod
    def submit(self, job: Path, token: str, sites: list[str]) -> str:
        """Start the job at the sites and return its id.

        A job of the same token that still runs, or that ended well and was not collected, is used instead.
        """

    @abstractmethod
    def follow(self, job_id: str) -> Iterator[Event]:
        """Yield events until the job has ended well. Raises FederationError with the reason where it failed."""

    @abstractmethod
    def collect(self, job_id: str, dest: Path) -> Path:
        """Copy the server's run folder of an ended or aborted job to `dest`, and return `dest`.

        Raises FederationError where there is none.
        """

    def words(self, job_id: str) -> str:
        """Return the error in the sites' own logs where the sites are this machine, else "".

        A hospital's log stays there.
        """
        return ""

    @abstractmethod
    def abort(self, job_id: str) -> None:
        """End the job and all its processes."""

    @abstractmethod
    def close(self) -> None:
        """Release all resources and end the processes that this federation started."""

    def __enter__(self) -> Federation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def explained(said: str, dest: Path) -> str:
    """Append the reason found in the server's log to the message, unless it is already there."""
    found = reason(
        "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in sorted(dest.rglob("log.txt")))
    )
    return said if not found or found in said else f"{said}: {found}"


# Error patterns of FLARE's logs and the messages shown for them, the most specific first.
REASONS = [
    (r"FEDSYNTH FAILED (.+)", "{0}"),  # written by nvflare_jobs/site/site.py
    (
        r"Component '(\S+)' at config path \S+ is not in allow_list",
        (
            "{0} is not allowed there: add it to class_allow_list in local/resources.json (docs/production.md,"
            " docs/hospital.md)"
        ),
    ),
    (r"Exception in model controller run: \w+: ([^\n]+)", "{0}"),
    # excluded: FLARE's own error when a job is queried as it ends
    (r"^(?!AttributeError: 'NoneType')(\w*(?:Error|Exception): .+)$", "{0}"),
    (r"Subprocess died for client (\S+), exit code: (-?\d+)", "site {0} died (exit code {1})"),
    (r"Communication error with client (\S+):", "site {0} died"),
    (r"(?:received panic|PANIC)[^\n]*: ([^\n]+)", "{0}"),
]


def reason(log: str, own: bool = False) -> str:
    """Return the error found in a log, in one line, or "". `own`: consider only what our own clients wrote."""
    for pattern, text in REASONS[:1] if own else REASONS:
        if found := re.search(pattern, log, re.MULTILINE):
            return text.format(*(group.strip() for group in found.groups()))
    return ""
