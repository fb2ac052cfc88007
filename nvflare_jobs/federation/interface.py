"""Federation: the interface of all modes to run FLARE jobs (submit, follow, collect, abort, close), and their
errors.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

# how a status begins that a person should see
LOST, WHOLE, WAITING = "the job was lost", "the result is whole", "waiting for"
NOTABLE = (LOST, WHOLE, WAITING)


class FederationError(RuntimeError):
    """A job did not end well; the message is its reason in one line."""


class JobLost(FederationError):
    """The job is gone, and another one of the same content goes on from what the server and the sites keep of it.

    Its server was restarted, a site is back that had gone, or one of its sites' processes died: FLARE ends the whole
    job then, whatever the quorum. A site whose process dies again and again says so in the job after
    (nvflare_jobs/site/site.py).
    """


@dataclass(frozen=True)
class Event:
    """What one looks at while a job runs: `kind` is job (its id), status or round; a round has each site's metrics by
    name.
    """

    kind: str
    status: str = ""
    round: int = -1
    sites: dict[str, dict[str, float]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)  # site: why its update is not in this round
    seconds: float = 0.0
    # site: bytes of this round (nvflare_jobs/server/traffic.py)
    traffic: dict[str, dict[str, int]] = field(default_factory=dict)
    resumed: bool = False  # an earlier job of the same training had ended before this round

    @classmethod
    def of(cls, record: dict[str, Any]) -> Event:
        """A line of the rounds' file."""
        return cls("round", **{name: value for name, value in record.items() if name in cls.__dataclass_fields__})


class Federation(ABC):
    """Used as a context manager: whatever ends the block leaves no process of ours."""

    @abstractmethod
    def sites(self) -> list[str] | None:
        """Those connected now; None where that is not known (a simulated site is there when it is asked)."""

    @abstractmethod
    def submit(self, job: Path, token: str, sites: list[str]) -> str:
        """Start the job at the sites, or find the one of the same token that runs, or ended well and was not collected.
        Returns its id.
        """

    @abstractmethod
    def follow(self, job_id: str) -> Iterator[Event]:
        """Events until the job has ended well. Raises FederationError with the reason where it has not."""

    @abstractmethod
    def collect(self, job_id: str, dest: Path) -> Path:
        """Bring the server's run folder of a job (ended or aborted) to `dest`."""

    def words(self, job_id: str) -> str:
        """What the sites' own logs say went wrong, where the sites are this machine; a hospital's log stays there."""
        return ""

    @abstractmethod
    def abort(self, job_id: str) -> None:
        """End the job and all its processes."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything; processes that this federation started end."""

    def __enter__(self) -> Federation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def explained(said: str, dest: Path) -> str:
    """With the reason that the server's log holds, where there is one that has not been said."""
    found = reason("\n".join(path.read_text(errors="replace") for path in sorted(dest.rglob("log.txt"))))
    return said if not found or found in said else f"{said}: {found}"


# What a FLARE log says when something went wrong, the most telling first, and how to put it.
REASONS = [
    (r"FEDSYNTH FAILED (.+)", "{0}"),  # nvflare_jobs/site/site.py wrote it
    (
        r"Component '(\S+)' at config path \S+ is not in allow_list",
        (
            "{0} is not allowed there: add it to class_allow_list in local/resources.json (docs/production.md,"
            " docs/hospital.md)"
        ),
    ),
    (r"Exception in model controller run: \w+: ([^\n]+)", "{0}"),
    # that one is FLARE's, of a job that is asked as it ends
    (r"^(?!AttributeError: 'NoneType')(\w*(?:Error|Exception): .+)$", "{0}"),
    (r"Subprocess died for client (\S+), exit code: (-?\d+)", "site {0} died (exit code {1})"),
    (r"Communication error with client (\S+):", "site {0} died"),
    (r"(?:received panic|PANIC)[^\n]*: ([^\n]+)", "{0}"),
]


def reason(log: str, own: bool = False) -> str:
    """What went wrong, in one line; nothing where the log says nothing. `own`: only what our own clients wrote."""
    for pattern, text in REASONS[:1] if own else REASONS:
        if found := re.search(pattern, log, re.MULTILINE):
            return text.format(*(group.strip() for group in found.groups()))
    return ""
