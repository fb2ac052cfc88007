"""Params, rounds and scores as the flat names and numbers that a tracking server keeps."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from statistics import mean
from typing import Any

COUNTS = ("steps", "weight")  # of a site's round: what its losses rest on, no losses themselves


def flatten(value: Any, prefix: str = "") -> dict[str, str]:
    """{"models.vae.training.rounds": "12", ...}; a list is one value."""
    if isinstance(value, dict) and value:
        flat: dict[str, str] = {}
        for name, inner in value.items():
            flat |= flatten(inner, f"{prefix}.{name}" if prefix else str(name))
        return flat
    return {prefix: value if isinstance(value, str) else json.dumps(value)}


def round_metrics(event: dict[str, Any]) -> dict[str, float]:
    """One row of history.json: `<site>/loss/<player>` for every site, `loss/<player>` as their mean by weight (images
    seen), `seconds`, how many `sites` the round rests on, and what was measured on the wire: `<site>/bytes_up` and the
    like, and their sums `bytes_up`, ….
    """
    found: dict[str, float] = {"sites": len(event["sites"])}
    weighted: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for site, numbers in event["sites"].items():
        for name, value in numbers.items():
            if name in COUNTS:
                continue
            found[f"{site}/{name}"] = value
            if name.startswith("loss/"):
                weighted[name].append((value, numbers.get("weight", 1.0)))
    for name, pairs in weighted.items():
        found[name] = sum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs)
    for site, counts in event.get("traffic", {}).items():
        for name, value in counts.items():
            found[f"{site}/{name}"] = value
            found[name] = found.get(name, 0) + value
    if "seconds" in event:
        found["seconds"] = event["seconds"]
    return found


def score_metrics(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Mean over the seeds of `<use>/<name>/<site>/<metric>`, and over seeds and sites of `<use>/<name>/<metric>`.

    A row trained on another site's images than it is tested on has that site in its name: `<use>/local from
    <trained_on>/...`. A mean of which a part could not be computed is left out: over fewer images it would be another
    quantity.
    """
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        abroad = row["trained_on"] not in ("all", row["model"], row["site"])
        name = f"{row['name']} from {row['trained_on']}" if abroad else row["name"]
        for metric, value in row["metrics"].items():
            number = math.nan if value is None else float(value)
            values[f"{row['use']}/{name}/{row['site']}/{metric}"].append(number)
            if not abroad:
                values[f"{row['use']}/{name}/{metric}"].append(number)
    means = {name: mean(found) for name, found in values.items()}
    return {name: value for name, value in means.items() if not math.isnan(value)}
