"""Calibration of networks by group: site, class, and, where a manifest has them, sex and age band."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.data import manifest
from fedsynth.data.people import UNKNOWN

if TYPE_CHECKING:
    import pandas as pd

    from fedsynth.uses import Table

BINS, DRAWS, Z = 10, 200, 1.959964
WITHHELD = "withheld"
BY = ("site", "class", "sex", "age")
WORST = "ece_worst_group"  # the number of a use that gates may name: the largest known error of a group
ALL = "all"  # the group of a whole site

Entry = dict[str, Any]  # {"use", "name", "model", "site", "by", "group", "value", "low", "high", "n"}


def at_site(tables: list[Table], rows: pd.DataFrame, labels: list[str], min_cell: int, seed: int) -> list[Entry]:
    """Return {"by", "group", "value", "low", "high", "n"} of each group of a site's test images.

    `tables`: a network's logits for each seed (uses/classification.py), all of the images `rows`. A group of fewer than
    `min_cell` patients says "withheld" in place of its number of images. Only these numbers are made to leave
    (hospital/outgoing/calibration.py): no row, no age, no sex does.
    """
    from fedsynth.uses.classification import confidence

    found = []
    whose = manifest.patients(rows)
    sure = [confidence(table) for table in tables]
    for by, group, chosen in groups(rows, labels):
        patients = np.unique(whose[chosen], return_inverse=True)[1]
        few = by in ("sex", "age") and 0 < len(set(patients.tolist())) < min_cell
        values = interval([(c[chosen], r[chosen]) for c, r in sure], patients, seed)
        ends = dict(zip(("value", "low", "high"), (None,) * 3 if few or group == UNKNOWN else values, strict=True))
        found.append({"by": by, "group": group, "n": WITHHELD if few else int(chosen.sum())} | ends)
    return found


def groups(rows: pd.DataFrame, labels: list[str]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (by, group, (N,) bool): the site, each class, and each sex and age band that some image has."""
    yield "site", ALL, np.ones(len(rows), bool)
    for label in labels:
        yield "class", label, (rows["label"] == label).to_numpy()
    for by in ("sex", "age"):
        said = rows[by].replace("", UNKNOWN)
        for group in sorted(set(said)) if (said != UNKNOWN).any() else []:
            yield by, group, (said == group).to_numpy()


def interval(
    tables: list[tuple[np.ndarray, np.ndarray]], patients: np.ndarray, seed: int
) -> tuple[float | None, float | None, float | None]:
    """Returns the error, mean over the tables, with a 95 % interval for other patients, and for other seeds if there
    are several.

    The standard deviation is that of a bootstrap of patients (Efron 1979); its percentiles would lie too high, because
    the error of a sample is biased upwards. No interval for fewer than two patients.
    """
    from fedsynth.uses.classification import calibration_error

    errors = [calibration_error(*of, BINS) for of in tables]
    value = float(np.mean(errors)) if errors else float("nan")
    if not np.isfinite(value):
        return None, None, None
    members = [np.flatnonzero(patients == k) for k in np.unique(patients)]
    if len(members) < 2:
        return round(value, 6), None, None
    rng = np.random.default_rng([seed, 5])
    drawn = []
    for _ in range(DRAWS):
        places = np.concatenate([members[k] for k in rng.integers(0, len(members), len(members))])
        drawn.append(np.mean([calibration_error(sure[places], right[places], BINS) for sure, right in tables]))
    between = np.var(errors, ddof=1) / len(errors) if len(errors) > 1 else 0.0
    around = Z * float(np.sqrt(np.var(drawn, ddof=1) + between))
    return round(value, 6), round(max(0.0, value - around), 6), round(min(1.0, value + around), 6)


def worst(entries: list[Entry]) -> Entry | None:
    """Returns the known entry with the largest error, None if none is known."""
    known = [of for of in entries if of["value"] is not None]
    return max(known, key=lambda of: of["value"], default=None)


def said(of: Entry) -> str:
    """Return where an entry is: "none at north", "female at north", "north"."""
    where = {"site": "", "class": f"{of['group']} at ", "sex": f"{of['group']} at ", "age": f"age {of['group']} at "}
    return f"{where[of['by']]}{of['site']}"
