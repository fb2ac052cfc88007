"""The file in which a job's rounds are written down as they happen: a line of JSON for each, with each site's metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROUNDS = "rounds.jsonl"  # in the server's run folder


def read(path: Path) -> list[dict[str, Any]]:
    """The rounds so far; the last line may be half written, and is then not there yet."""
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.is_file() else []
