"""What the page of `fedsynth look` says of a whole site: tables, and histograms of each channel by class."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from fedsynth.data.manifest import BINS, SPLITS
from fedsynth.validation import look_charts
from fedsynth.validation.look_set import Looked
from fedsynth.validation.verdict import count

KINDS = 8  # sizes and spacings that are listed
SAMPLE = 64  # images of a class whose stored pixels are counted
OTHER = "another"  # a split that has none of the names
BEYOND = 5  # percent of images at either end whose range may leave the axis


def tables(of: Looked) -> dict[str, Any]:
    """Counts by class and split, sizes and spacings with their numbers of images, masks that are unknown."""
    good = of.rows["problem"] == ""
    usable, counts = of.rows[good], count(of.rows[good], of.classes)
    bad = of.rows.loc[~good, "label"].value_counts()
    lacking = usable.loc[usable["lacks"] != "", "lacks"]
    split = usable["split"].isin(SPLITS).all()
    return {
        "splits": [*SPLITS, *([] if split else [OTHER])],
        "classes": [
            {
                "label": label or "(no label)",
                "known": label in of.image.labels,
                "n": counts[label] | {OTHER: int((usable["label"] == label).sum()) - sum(counts[label].values())},
                "bad": int(bad.get(label, 0)),
            }
            for label in of.classes
        ],
        "kinds": {
            "size as read": _listed(usable["source_shape"].map(times)),
            "size as stored": _listed(usable["shape"].map(times)),
            "spacing as stored, mm": _listed(usable["spacing_mm"].map(times)),
            "without, or of an unknown mask": _listed(lacking),
        },
    }


def _listed(values: pd.Series) -> list[tuple[str, int]]:
    found = values.value_counts()
    rest = [(f"{len(found) - KINDS} others", int(found.iloc[KINDS:].sum()))] if len(found) > KINDS else []
    return [(text or "unknown", int(n)) for text, n in found.iloc[:KINDS].items()] + rest


def times(text: str) -> str:
    """ "32 × 32" of the manifest's "32x32"."""
    return text.replace("x", " × ")


def ranges(text: str, names: list[str]) -> dict[str, tuple[float, float]]:
    """{"t1": (0.0, 812.0)} of a cell "t1 0..812, t2 3..90" of the manifest."""
    found = {name: re.search(rf"(?:^|, ){re.escape(name)} (\S+?)\.\.([^\s,]+)", text) for name in names}
    return {name: (float(match[1]), float(match[2])) for name, match in found.items() if match}


def charts(of: Looked) -> list[dict[str, str]]:
    """For each image channel a histogram as read and as stored, with a line for each class."""
    return [_channel(of, name, number) for number, name in enumerate(of.image.images)]


def _channel(of: Looked, name: str, number: int) -> dict[str, str]:
    chart = {"name": name, "stored": look_charts.overlay(_stored(of, number), f"{name} as stored, by class")}
    found = {i: ranges(of.records[i]["values"], [name]).get(name) for places in of.usable.values() for i in places}
    own = {i: ends for i, ends in found.items() if ends and ends[0] < ends[1]}
    if of.read is None or not own:
        return chart
    low, high = np.array(list(own.values())).T
    ends = (float(np.percentile(low, BEYOND)), float(np.percentile(high, 100 - BEYOND)))
    if not ends[0] < ends[1]:
        return chart
    read = of.read[:, number]
    lines = {label: _read([i for i in places if i in own], own, read, ends) for label, places in of.usable.items()}
    return chart | {
        "read": look_charts.overlay(lines, f"{name} as read, from {ends[0]:.6g} to {ends[1]:.6g}, by class"),
        "low": f"{ends[0]:.6g}",
        "high": f"{ends[1]:.6g}",
    }


def _read(
    places: list[int], own: dict[int, tuple[float, float]], read: np.ndarray, ends: tuple[float, float]
) -> np.ndarray:
    shares = [look_charts.on_range(read[i], own[i], ends) for i in places if read[i].sum()]
    return np.mean(shares, axis=0) if shares else np.zeros(BINS)


def _stored(of: Looked, number: int) -> dict[str, np.ndarray]:
    """Shares of the stored values of at most `SAMPLE` images of each class, evenly spaced."""
    found = {}
    for label, places in of.usable.items():
        counts = sum(stored(of.images[i, number]) for i in places[:: -(-len(places) // SAMPLE)])
        found[label] = counts / max(np.sum(counts), 1)
    return found


def stored(plane: np.ndarray) -> np.ndarray:
    """(BINS,) counts of the values of a stored plane."""
    return np.histogram(plane, BINS, (-1, 1))[0]
