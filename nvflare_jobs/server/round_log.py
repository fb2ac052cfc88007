"""The server's record of a job: one line of JSON per round, and a marker that its result is complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROUNDS, COMPLETE, REFUSED = "rounds.jsonl", "complete", "refused.txt"  # in the server's run folder

# Why a site is not in a round that has said nothing.
LATE, ABSENT = "no update within the time of grace", "not connected"
SILENT = (LATE, ABSENT)


def read(path: Path) -> list[dict[str, Any]]:
    """The rounds so far; the last line may be half written, and is then not there yet."""
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.is_file() else []


def append(path: Path, record: dict[str, Any]) -> None:
    """One more round is done."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def complete(run_dir: Path) -> None:
    """The server has all that the job is for. FLARE may still call it failed: where a site died, for one."""
    (run_dir / COMPLETE).touch()


def is_complete(run_dir: Path) -> bool:
    return (run_dir / COMPLETE).is_file()


def refuse(run_dir: Path, why: str) -> None:
    """The server ends the job of itself, and another one would end in the same way."""
    (run_dir / REFUSED).write_text(why)


def refused(run_dir: Path) -> str:
    path = run_dir / REFUSED
    return path.read_text() if path.is_file() else ""
