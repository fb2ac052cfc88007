"""Partitions the subjects of one data set over several simulated sites."""

from __future__ import annotations

import zlib
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, ValidationInfo, field_validator

from fedsynth.data.manifest import SetError
from fedsynth.params import Strict
from fedsynth.params.problems import argument, twice

TRIES = 20_000
MOST_SITES = 10_000
BY_CLASS, EQUAL = ("dirichlet", "silos"), ("iid", "silos")  # kinds that deal each class for itself; in equal shares


class Partition(Strict):
    """How a table's images come to sites. Except with `site`, a subject is never in two of them.

    `site`: by the table's column; `sites` may then pick and order. `iid`: equal shares. `quantity`: shares of all
    subjects from a Dirichlet distribution. `dirichlet`: such shares for each class anew (after Hsu et al. 2019,
    arXiv:1909.06335): a small `alpha` skews the classes, a large one is iid. `silos`: one class at each site (McMahan
    et al. 2017's pathological case, at its end); sites of one class share it equally, and with fewer sites than classes
    each has several. Validation then needs `expectations.every_class: false`.
    """

    kind: Literal["site", "iid", "dirichlet", "quantity", "silos"] = "site"
    # names, or a number of them: site-1, site-2, …
    sites: list[str] | Annotated[int, Field(ge=1, le=MOST_SITES)] | None = Field(None, validate_default=True)
    alpha: float = Field(0.5, gt=0)
    # at each site (with `dirichlet` and `silos`: of each class there); drawn again until it holds
    min_images: int = Field(0, ge=0)

    @field_validator("sites")
    @classmethod
    def _of_kind(cls, sites: list[str] | int | None, info: ValidationInfo) -> list[str] | int | None:
        kind = info.data.get("kind")  # None where that is wrong itself
        if kind == "site" and isinstance(sites, int):
            raise ValueError("must be names with kind: site, which takes the sites of the table")
        if kind not in (None, "site") and not sites:
            raise ValueError(f"must be names of sites, or how many there are, with kind: {kind}")
        if isinstance(sites, list):
            twice(sites)
        return sites

    @property
    def names(self) -> list[str]:
        return [f"site-{i + 1}" for i in range(self.sites)] if isinstance(self.sites, int) else list(self.sites or [])


def parse(entry: dict[str, Any] | None) -> Partition:
    """A source's argument `partition`, checked. Raises ArgumentsError with every wrong key."""
    return argument(Partition, {} if entry is None else entry, "partition")


def deal(subjects: pd.DataFrame, partition: Partition, seed: int) -> dict[str, str]:
    """The site of each subject. `subjects` has the columns subject, label and images (how many), a row for each
    subject.

    The same table, in whatever order, and the same seed give the same sites. Raises SetError where there are fewer
    subjects than sites, or `min_images` cannot be had.
    """
    rng = np.random.default_rng([seed, zlib.crc32(b"partition")])
    subjects = subjects.sort_values("subject")
    groups = [group for _, group in subjects.groupby("label")] if partition.kind in BY_CLASS else [subjects]
    sites: dict[str, str] = {}
    for number, group in enumerate(groups):
        mixed = group.iloc[rng.permutation(len(group))]
        names = _silo(partition.names, number, len(groups)) if partition.kind == "silos" else partition.names
        _enough(subjects if partition.kind == "dirichlet" else group, partition, len(names))
        sites |= dict(
            zip(mixed["subject"], np.array(names)[_places(mixed, partition, len(names), rng)].tolist(), strict=True)
        )
    return sites


def _enough(subjects: pd.DataFrame, partition: Partition, k: int) -> None:
    """Raises SetError where there are fewer subjects than the k sites that they are dealt to.

    None at all is no error here: then no image could be read, and each says why.
    """
    if 0 < len(subjects) < k:
        of = f" of class {subjects['label'].iloc[0]!r}" if partition.kind == "silos" else ""
        raise SetError(
            f"source.args.partition.sites: {len(subjects)} subjects{of} cannot be dealt to {k} sites, since a subject"
            " is never in two of them; take fewer sites"
        )


def _silo(names: list[str], number: int, classes: int) -> list[str]:
    """The sites that hold class `number` of so many."""
    return names[number::classes] or [names[number % len(names)]]


def _places(group: pd.DataFrame, partition: Partition, k: int, rng: np.random.Generator) -> np.ndarray:
    """(subjects,) int: the site of each out of k, such that the images at each site are in the drawn shares, to within
    a subject.
    """
    images = group["images"].to_numpy()
    middle = (np.cumsum(images) - images / 2) / images.sum()
    for _ in range(TRIES if images.sum() >= k * partition.min_images else 0):
        share = np.full(k, 1 / k) if partition.kind in EQUAL else rng.dirichlet(np.full(k, partition.alpha))
        places = np.minimum(np.searchsorted(np.cumsum(share), middle), k - 1)  # rounding may leave the last sum below 1
        if np.bincount(places, weights=images, minlength=k).min() >= partition.min_images:
            return places
    of = f" of class {group['label'].iloc[0]!r}" if partition.kind in BY_CLASS else ""
    raise SetError(
        f"source.args.partition.min_images: {images.sum()} images of {len(group)} subjects{of} do not give each of {k}"
        f" sites {partition.min_images}; lower it, raise alpha, or take fewer sites"
    )
