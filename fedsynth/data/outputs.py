"""JSON files that stages exchange."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedsynth.errors import UserError


def read(path: Path, stage: str) -> Any:
    """Content of a file that `stage` of dvc.yaml writes. Raises UserError naming the file and the stage where it is not
    there.
    """
    if not path.is_file():
        raise UserError(f"{path} is not there; run `dvc repro {stage}` first, or bring it back with `dvc pull`")
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text(content), encoding="utf-8")


def text(content: Any) -> str:
    """As it stands in a file."""
    return json.dumps(content, indent=1) + "\n"
