"""Partitions the subjects of one data set over several simulated sites."""

from __future__ import annotations

import zlib
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, ValidationError, model_validator

from fedsynth.data.manifest import SetError
from fedsynth.params import ParamsError, Strict

TRIES = 20_000
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
    sites: list[str] | int | None = None  # names, or a number of them: site-1, site-2, …
    alpha: float = Field(0.5, gt=0)
    # at each site (with `dirichlet` and `silos`: of each class there); drawn again until it holds
    min_images: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Partition:
        if self.kind == "site" and isinstance(self.sites, int):
            raise ValueError("partition.sites must be names with kind: site")
        if self.kind != "site" and not self.sites:
            raise ValueError(f"partition.kind {self.kind} needs partition.sites: names, or how many")
        if isinstance(self.sites, list) and len(set(self.sites)) != len(self.sites):
            raise ValueError(f"partition.sites names one site twice: {self.sites}")
        return self

    @property
    def names(self) -> list[str]:
        return [f"site-{i + 1}" for i in range(self.sites)] if isinstance(self.sites, int) else list(self.sites or [])


def parse(entry: dict[str, Any] | None) -> Partition:
    """A source's argument `partition`, checked. Raises ParamsError naming the key and its value."""
    try:
        return Partition.model_validate(entry or {})
    except ValidationError as error:
        first = error.errors()[0]
        raise ParamsError(
            f"source.args.partition {'.'.join(map(str, first['loc']))}: {first['msg']} ({first['input']!r})"
        ) from error


def deal(subjects: pd.DataFrame, partition: Partition, seed: int) -> dict[str, str]:
    """The site of each subject. `subjects` has the columns subject, label and images (how many), a row for each
    subject.

    The same table, in whatever order, and the same seed give the same sites. Raises SetError where `min_images` cannot
    be had.
    """
    rng = np.random.default_rng([seed, zlib.crc32(b"partition")])
    subjects = subjects.sort_values("subject")
    groups = [group for _, group in subjects.groupby("label")] if partition.kind in BY_CLASS else [subjects]
    sites: dict[str, str] = {}
    for number, group in enumerate(groups):
        mixed = group.iloc[rng.permutation(len(group))]
        names = _silo(partition.names, number, len(groups)) if partition.kind == "silos" else partition.names
        sites |= dict(
            zip(mixed["subject"], np.array(names)[_places(mixed, partition, len(names), rng)].tolist(), strict=True)
        )
    return sites


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
        f"partition: {images.sum()} images of {len(group)} subjects{of} do not give each of {k} sites"
        f" {partition.min_images}; lower partition.min_images, raise alpha, or take fewer sites"
    )
