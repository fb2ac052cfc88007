"""The record of a hospital: what was asked, by whom, what was refused, and what left; no value, only its digest."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedsynth.hospital.chain import Chain

FILE = "record.jsonl"
Entry = dict[str, Any]


class Record:
    """The record in a site's state folder, an append-only chain.

    Entries: `at` (UTC), `what` ("asked", "repeated", "refused", "sent", "failed", "withdrawn"), `job` (its kind), `id`
    and `submitter` of the job, `name` (the model), `question`, `policy` and `data` (digests); of what was sent
    `arrays`, `values`, `bytes` and `sha256`, `keys` of the answer, `epsilon`; of a refusal the `rule`; of a withdrawal
    the number of `patients` and `images` and the digests of `sets` that held them.
    """

    def __init__(self, folder: Path):
        self.chain = Chain(Path(folder) / FILE)

    def add(self, entry: Entry) -> None:
        """Write an entry to the disk; what it is about may leave only then. Raises ChainError for a changed file."""
        self.chain.add({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **entry})

    def read(self) -> list[Entry]:
        """Return all entries, oldest first. Raises ChainError for a changed or shortened file."""
        return self.chain.read()

    def recent(self, since: str) -> list[Entry]:
        """Return the entries since a time (ISO 8601, UTC)."""
        return [entry for entry in self.read() if entry["at"] >= since]
