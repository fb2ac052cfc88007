"""Names of BIDS files: entities ("run-01"), suffix ("T1w") and ending."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fedsynth.data.planes import key

ENDINGS = (".nii.gz", ".nii")
INDICES = ("run", "echo", "flip", "inv", "split", "chunk")  # entities that are numbers: 1 is 01
OWN = ("orig", "individual", "scanner", "native")  # spaces of the subject's own images


def volumes(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("sub-*") if ending(p) and p.is_file())


def ending(path: Path) -> str:
    return next((end for end in ENDINGS if path.name.endswith(end)), "")


def stem(path: Path) -> str:
    return path.name.removesuffix(ending(path))


def suffix(path: Path) -> str:
    return stem(path).rpartition("_")[2]


def entities_of(path: Path) -> dict[str, str]:
    """Values by entity, {"sub": "01", "run": "02"}."""
    parts = [part.partition("-") for part in stem(path).split("_")[:-1]]
    return {name: value for name, _, value in parts}


def asked_for(there: Mapping[str, str], asked: Mapping[str, Any]) -> bool:
    """Whether a file has the entities that are asked for; None asks for one without."""
    return all(
        name not in there if value is None else name in there and _same(name, value, there[name])
        for name, value in asked.items()
    )


def _same(name: str, asked: Any, there: str) -> bool:
    """Whether two values of an entity are one. YAML makes a number of 01; an index is a number in any writing."""
    if isinstance(asked, int | float) or name in INDICES:
        try:
            return float(asked) == float(there)
        except ValueError:
            pass
    return str(asked) == there


def is_of(mask: Mapping[str, str], images: Iterable[Mapping[str, str]]) -> bool:
    """Whether a mask may be that of one of the images: they differ in no entity that both have."""
    return any(all(_same(name, mask[name], image[name]) for name in mask if name in image) for image in images)


def native(path: Path, end: str, suffixes: Iterable[str]) -> bool:
    """Whether a mask lies in its subject's own space, or `end` names the space that it lies in."""
    space = entities_of(path).get("space")
    return space is None or f"space-{space}" in end or key(space) in {*OWN, *map(key, suffixes)}
