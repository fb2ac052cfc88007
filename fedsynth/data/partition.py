"""Partition of the subjects of one data set into simulated sites."""

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
BY_CLASS, EQUAL = ("dirichlet", "silos"), ("iid", "silos")  # kinds that partition each class; in equal shares


class Partition(Strict):
    """How a table's images are assigned to sites. Except with `site`, a subject is never at two sites.

    Kinds:
      site: by the column of the table; `sites` selects and orders them.
      iid: equal shares.
      quantity: shares of all subjects from a Dirichlet distribution.
      dirichlet: such shares for each class (Hsu et al. 2019, arXiv:1909.06335); a small `alpha` skews the classes, and
        a large one approaches iid.
      silos: one class per site, the extreme of the pathological partition of McMahan et al. 2017. Sites of the same
        class have equal shares; with fewer sites than classes, a site has several. Validation then requires
        `expectations.every_class: false`.
    """

    kind: Literal["site", "iid", "dirichlet", "quantity", "silos"] = "site"
    # names, or their number: site-1, site-2, …
    sites: list[str] | Annotated[int, Field(ge=1, le=MOST_SITES)] | None = Field(None, validate_default=True)
    alpha: float = Field(0.5, gt=0)
    # minimum at each site, with `dirichlet` and `silos` of each class; shares are drawn again until it is reached
    min_images: int = Field(0, ge=0)

    @field_validator("sites")
    @classmethod
    def _of_kind(cls, sites: list[str] | int | None, info: ValidationInfo) -> list[str] | int | None:
        kind = info.data.get("kind")  # None if it is invalid
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
    """Return a source's argument `partition`. Raises ArgumentsError with all its problems."""
    return argument(Partition, {} if entry is None else entry, "partition")


def deal(subjects: pd.DataFrame, partition: Partition, seed: int) -> dict[str, str]:
    """Return {subject: site}; `subjects` has a row for each subject: subject, label, images (their number).

    The sites depend on the seed, and not on the order of the rows. Raises SetError if there are fewer subjects than
    sites, or `min_images` cannot be reached.
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
    """Raise SetError if there are fewer subjects than k sites.

    Without subjects no image could be read, and validation reports the problem of each.
    """
    if 0 < len(subjects) < k:
        of = f" of class {subjects['label'].iloc[0]!r}" if partition.kind == "silos" else ""
        raise SetError(
            f"source.args.partition.sites: {len(subjects)} subjects{of} cannot be dealt to {k} sites, because a"
            " subject is never at two sites; use fewer sites"
        )


def _silo(names: list[str], number: int, classes: int) -> list[str]:
    """Return the sites of class `number` of `classes`."""
    return names[number::classes] or [names[number % len(names)]]


def _places(group: pd.DataFrame, partition: Partition, k: int, rng: np.random.Generator) -> np.ndarray:
    """Return (subjects,) int, the index of each subject's site among k.

    The sites' shares of the images are the drawn ones, to within a subject.
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
