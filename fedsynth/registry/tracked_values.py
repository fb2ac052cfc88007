"""Converts params, rounds and scores to the flat names and values that MLflow stores."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from statistics import mean
from typing import Any

from fedsynth.params import names

COUNTS = ("steps", "weight")  # counts in a site's round, which are not metrics


def metric_key(metric: str) -> str:
    """Return a metric's name with the key of its label, if any: MLflow takes few characters, and / for folders."""
    name, dot, label = metric.partition(".")
    return f"{name}{dot}{names.key(label)}" if label else name


def flatten(value: Any, prefix: str = "") -> dict[str, str]:
    """Flatten nested parameters: {"models.vae.training.rounds": "12", ...}; a list is one value."""
    if isinstance(value, dict) and value:
        flat: dict[str, str] = {}
        for name, inner in value.items():
            flat |= flatten(inner, f"{prefix}.{name}" if prefix else str(name))
        return flat
    return {prefix: value if isinstance(value, str) else json.dumps(value)}


def round_metrics(event: dict[str, Any]) -> dict[str, float]:
    """Return the metrics of one round in history.json.

    - `<site>/loss/<player>` for every site, and `loss/<player>`: their mean weighted by `weight` (images seen)
    - `seconds`, and `sites`: the number of sites in the round
    - the measured traffic, such as `<site>/bytes_up`, and its sum over the sites, such as `bytes_up`
    """
    found: dict[str, float] = {"sites": len(event["sites"])}
    weighted: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for site, numbers in event["sites"].items():
        for name, value in numbers.items():
            if name in COUNTS:
                continue
            found[f"{names.key(site)}/{name}"] = value
            if name.startswith("loss/"):
                weighted[name].append((value, numbers.get("weight", 1.0)))
    for name, pairs in weighted.items():
        found[name] = sum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs)
    for site, counts in event.get("traffic", {}).items():
        for name, value in counts.items():
            found[f"{names.key(site)}/{name}"] = value
            found[name] = found.get(name, 0) + value
    if "seconds" in event:
        found["seconds"] = event["seconds"]
    return found


def score_metrics(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return `<use>/<name>/<site>/<metric>`, a mean over the seeds, and `<use>/<name>/<metric>`, over seeds and sites.

    For a row that was trained on another site's images, <name> is `local from <trained_on>`, and the mean over the
    sites omits it. If a value in a mean is missing, the mean is left out, because a mean over fewer values is another
    quantity.
    """
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        abroad = row["trained_on"] not in ("all", "public", row["model"], row["site"])
        name = f"{row['name']} from {names.key(row['trained_on'])}" if abroad else row["name"]
        for metric, value in row["metrics"].items():
            number = math.nan if value is None else float(value)
            values[f"{row['use']}/{name}/{names.key(row['site'])}/{metric_key(metric)}"].append(number)
            if not abroad:
                values[f"{row['use']}/{name}/{metric_key(metric)}"].append(number)
    means = {name: mean(found) for name, found in values.items()}
    return {name: value for name, value in means.items() if not math.isnan(value)}
