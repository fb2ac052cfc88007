"""Validates the sites' updates before aggregation."""

from __future__ import annotations

import numpy as np

from fedsynth.compression import CodingError, Compression
from fedsynth.training.coding import decode

Update = tuple[str, float, dict[str, np.ndarray]]


def check(
    updates: list[Update], shapes: dict[str, tuple[int, ...]], by: Compression | None = None
) -> tuple[list[Update], dict[str, str]]:
    """Return the usable updates, decoded, and for each other site why its update is left out.

    `shapes`: those of the global parameters. `by`: the compression of the updates, None where they are not coded.
    """
    good, bad = [], {}
    for site, weight, arrays in updates:
        try:
            difference = arrays if by is None else decode(by, arrays, shapes)
        except CodingError as error:
            bad[site] = f"sent what cannot be decoded: {error}; does it run the same version?"
            continue
        if why := _unusable(weight, difference, shapes):
            bad[site] = why
        else:
            good.append((site, weight, difference))
    return good, bad


def _unusable(weight: float, difference: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> str:
    if {name: tuple(np.shape(a)) for name, a in difference.items()} != shapes:
        return "sent other parameters or shapes than the centre did; does it run the same version?"
    if bad := [name for name, a in difference.items() if not np.issubdtype(a.dtype, np.floating)]:
        return f"sent {bad[0]} as {difference[bad[0]].dtype}, which cannot be averaged"
    if bad := [name for name, a in difference.items() if not np.isfinite(a).all()]:
        return f"sent NaN or Inf in {bad[0]}; lower the learning rate or look at that site's data"
    if not (weight > 0 and np.isfinite(weight)):
        return f"sent the weight {weight}"
    return ""
