"""Names of files and the spacing that is written into them, for all exporters."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from fedsynth.params.names import IDENTIFIER, key

NOMINAL_MM = 1.0  # written where a format must have a spacing and none is known
# Hugging Face's loaders take a file with one of these words in its name for a part of that split.
SPLIT = re.compile(r"(?<![a-z])(train|training|valid|validation|val|dev|test|testing|eval|evaluation)(?![a-z])", re.I)


def stems(names: Iterable[str], taken: Iterable[str] = (), split_words: bool = True) -> dict[str, str]:
    """A part of a file's name for each name (image_id or channel), unique without regard to case and to `taken`: the
    name itself, or where a file cannot have it a safe key. Without `split_words` a word by which Hugging Face would
    tell a split is changed, too.
    """
    parts = {name: _part(name, split_words) for name in map(str, names)}
    counts = Counter(part.casefold() for part in [*parts.values(), *taken])
    return {name: part if counts[part.casefold()] == 1 else f"{part}-{_hash(name)}" for name, part in parts.items()}


def _part(name: str, split_words: bool) -> str:
    part = name if IDENTIFIER.fullmatch(name) else key(name)
    plain = part if split_words else SPLIT.sub(r"x\1", part)
    return part if plain == part else f"{plain}-{_hash(name)}"


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def spacing_of(row: dict[str, Any], dims: int) -> list[float]:
    """The spacing in mm of each axis of the array, from the manifest's row; `NOMINAL_MM` where it is unknown."""
    return [float(s) for s in row["spacing_mm"].split("x")] if row["spacing_mm"] else [NOMINAL_MM] * dims


def said_of_spacing(row: dict[str, Any]) -> str:
    """What a file's header says of its spacing."""
    return "spacing in mm" if row["spacing_mm"] else f"spacing unknown: {NOMINAL_MM:g} mm is nominal"
