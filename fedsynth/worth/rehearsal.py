"""Floors that somebody has changed in policies of simulated hospitals: a study that ran with them is a rehearsal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedsynth.worth.withdrawn import SOURCE

VALIDATION, FLOORS = Path("reports") / "validation.json", "floors"
Floors = Mapping[str, Mapping[str, list[Any]]]  # site -> floor -> [as it is, as it was]


def outside(root: Path) -> dict[str, Any]:
    """Return the changed floors that the stage `source` has seen; empty in a federation, whose policies nobody sees."""
    return _read(root / SOURCE)


def known(root: Path) -> list[str]:
    """Return in words what was changed when the study's sites were validated, and so when its models were trained."""
    return sentences(_read(root / VALIDATION))


def of(validation: Mapping[str, Any]) -> list[str]:
    """Return the same of what reports/validation.json says."""
    return sentences(validation.get(FLOORS, {}))


def sentences(floors: Floors) -> list[str]:
    """Return what was changed in words, sites with the same changes together."""
    by_change: dict[str, list[str]] = {}
    for site, changed in floors.items():
        said = ", ".join(f"floors.{name} is {now}, not {usual}" for name, (now, usual) in changed.items())
        by_change.setdefault(said, []).append(site)
    return [
        f"A rehearsal: somebody has changed the policy of the simulated hospital{'s' * (len(sites) > 1)}"
        f" {', '.join(sites)}: {said}. Without that a job may be refused, and real hospitals have policies of their own"
        for said, sites in by_change.items()
    ]


def _read(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return dict(found.get(FLOORS, {}))
