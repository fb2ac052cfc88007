"""Retained and gap closed: the two ratios that say what a synthetic set is worth for a use."""

from __future__ import annotations

import math

NAMES = ("local", "federated", "pooled", "synthetic", "augmented", "public")
SMALLEST_GAP = 0.05  # one or two test images of a small site shift a metric by as much: smaller gaps tell nothing
NO_GAP, AT_CHANCE = "no gap", "at chance"  # how the reasons begin why a share is not defined


def gap_closed(local: float, augmented: float, together: float, chance: float = 0.0) -> float:
    """Return (augmented - local) / (together - local).

    0: no better than a site's own images; 1: as good as all sites' images together. NaN if `together` is less than
    SMALLEST_GAP above `local`: there is no gap to close; nor is there one where `together` is at chance.
    """
    gap = together - local
    return (augmented - local) / gap if gap >= SMALLEST_GAP and not at_chance(together, chance) else math.nan


def retained(synthetic: float, together: float, chance: float = 0.0) -> float:
    """Return (synthetic - chance) / (together - chance): of what all sites' images teach, the share that is kept.

    `chance`: what a network reaches that has learned nothing (`Use.chance`). 0 is no better than that, 1 as good as all
    sites' real images together. NaN if `together` is at chance.
    """
    return math.nan if at_chance(together, chance) else (synthetic - chance) / (together - chance)


def at_chance(together: float, chance: float) -> bool:
    """Whether what all sites' images reach is hardly better than chance, so that nothing can be a share of it."""
    return together - chance < SMALLEST_GAP


def undefined(why: str) -> str:
    """Return the word for a share that a reason of worth.py says is not defined; "" if the reason is another."""
    return next((word for word in (NO_GAP, AT_CHANCE) if why.startswith(word)), "")


def finite_or_none(value: float) -> float | None:
    """Return the value rounded to 4 decimals; None if it is not finite."""
    return round(float(value), 4) if math.isfinite(value) else None
