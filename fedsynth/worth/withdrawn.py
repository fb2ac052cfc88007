"""Which models were trained with a set that a hospital has withdrawn since, by digests alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fedsynth.training.weights import ABOUT

SOURCE = Path("data") / "source.json"  # written by the stage `source`


def known(root: Path) -> dict[str, list[str]]:
    """Return site -> digests of its earlier sets that held images of a patient who has withdrawn since.

    Empty before the first run. A site answers for itself alone: its digests say nothing of other sites' sets.
    """
    path = root / SOURCE
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {site: list(digests) for site, digests in found.get("withdrawn", {}).items()}


def sites(about: Mapping[str, Any], of: Mapping[str, list[str]]) -> list[str]:
    """Return the sites that have withdrawn a set which a model, or one that it began with, was trained with.

    `about`: its model.json.
    """
    return sorted(site for site, digests in trained_with(about).items() if {*digests} & {*of.get(site, [])})


def trained_with(about: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return site -> digests of its sets that a model was trained with, after those of what it began with."""
    found = {site: list(digests) for site, digests in ((about.get("began") or {}).get("digests") or {}).items()}
    for site, digest in about.get("digests", {}).items():
        found[site] = list(dict.fromkeys([*found.get(site, []), *([digest] if digest else [])]))
    return found


def lines(root: Path, models: Iterable[str]) -> list[str]:
    """Return a sentence for each model of the project that was trained with a withdrawn set, with what to do."""
    of, found = known(root), []
    for model in models if of else ():
        path = root / "models" / model / ABOUT
        where = sites(json.loads(path.read_text(encoding="utf-8")), of) if path.is_file() else []
        found += [f"{model}: {sentence(where)}; train it again without them: `fedsynth run`"] if where else []
    return found


def sentence(where: list[str]) -> str:
    return f"stale, data withdrawn at {', '.join(where)}: trained with images of a patient who has withdrawn since"
