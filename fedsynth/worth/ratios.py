"""Retained and gap closed: the two ratios that say what a synthetic set is worth for a use."""

from __future__ import annotations

import math

NAMES = ("local", "federated", "pooled", "synthetic", "augmented", "public")
SMALLEST_GAP = 0.05  # one or two test images of a small site shift a metric by as much: smaller gaps tell nothing


def gap_closed(local: float, augmented: float, together: float) -> float:
    """Return (augmented - local) / (together - local).

    0: no better than a site's own images; 1: as good as all sites' images together. NaN if `together` is less than
    SMALLEST_GAP above `local`: there is no gap to close.
    """
    gap = together - local
    return (augmented - local) / gap if gap >= SMALLEST_GAP else math.nan


def retained(synthetic: float, together: float) -> float:
    """Return synthetic / together; 1 is as good as all sites' real images together. NaN if `together` is 0."""
    return synthetic / together if together else math.nan


def finite_or_none(value: float) -> float | None:
    """Return the value rounded to 4 decimals; None if it is not finite."""
    return round(float(value), 4) if math.isfinite(value) else None
