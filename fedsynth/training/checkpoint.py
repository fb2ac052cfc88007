"""Checkpoints of a site's training state, written atomically."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


def save(path: Path, state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    torch.save(state, part)
    os.replace(part, path)


def load(path: Path) -> dict[str, Any] | None:
    """Returns the state, or None if there is no checkpoint.

    It holds tensors and plain values only; no pickled code is run.
    """
    return torch.load(path, weights_only=True, map_location="cpu") if path.is_file() else None
