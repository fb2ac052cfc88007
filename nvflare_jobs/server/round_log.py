"""The server's record of a job: one line of JSON per round, and a marker that its result is complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROUNDS, COMPLETE, REFUSED = "rounds.jsonl", "complete", "refused.txt"  # in the server's run folder

# Reasons recorded for a site that sent nothing in a round.
LATE, ABSENT = "no update within the time of grace", "not connected"
SILENT = (LATE, ABSENT)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the records of the completed rounds. A last line that is only half written is ignored."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]] if path.is_file() else []


def append(path: Path, record: dict[str, Any]) -> None:
    """Append the record of a completed round."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def complete(run_dir: Path) -> None:
    """Mark the result as complete. FLARE may still report the job as failed, for instance where a site died."""
    (run_dir / COMPLETE).touch()


def is_complete(run_dir: Path) -> bool:
    return (run_dir / COMPLETE).is_file()


def refuse(run_dir: Path, why: str) -> None:
    """Record why the server ended the job itself; a retry would end in the same way."""
    (run_dir / REFUSED).write_text(why, encoding="utf-8")


def refused(run_dir: Path) -> str:
    path = run_dir / REFUSED
    return path.read_text(encoding="utf-8") if path.is_file() else ""
