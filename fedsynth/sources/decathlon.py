"""Source: volumes in the folders of the Medical Segmentation Decathlon or nnU-Net."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from fedsynth.data import images
from fedsynth.data.manifest import SetError
from fedsynth.data.partition import parse
from fedsynth.params import Image
from fedsynth.sources import Record, path_of
from fedsynth.sources._indexed import (
    IndexedSource,
    Values,
    cases_of,
    check_names,
    only_label,
    put_images,
    put_mask,
    selected,
)

ABOUT, IMAGES, LABELS = "dataset.json", "imagesTr", "labelsTr"
KEYS = ("image_id", "case", "subject")


class Decathlon(IndexedSource):
    """`folder`/dataset.json, imagesTr and labelsTr (Antonelli et al. 2022, arXiv:2106.05735; nnU-Net v2: Isensee et al.
    2021, doi:10.1038/s41592-020-01008-z). What has no labels (imagesTs) is not read.

    An image is a file of dataset.json's `training`, whose channels lie on a fourth axis, or else
    `<case>_0000<file_ending>`, `<case>_0001…`, one for each. Image channels are dataset.json's of the same names;
    `channels` says which where ours have others, {t1: T1w}. Where none has its name there, they are all of them in
    their order.

    `masks` says which values of a label file become which mask channel: {lesion: [1, 2]}. By default those of the
    channel's own name in dataset.json (nnU-Net's regions, too), or, for one mask channel, all above 0.

    An image's label is that of `table`, a CSV (relative to `folder`, or `${NAMES}`) with the columns label and
    image_id, case or subject: the first of them that is there names the case. Its columns subject and site are taken
    where it has them; else a case is a subject, and `partition`, a fedsynth.data.partition.Partition, says how they
    come to sites. Without a table the label is the last of `by_mask` of whose values the label file holds one, an empty
    list being for what is there always: {none: [], oedema: [2], tumour: [1, 3]}. Without either it is `image.labels`
    where that is one, or whether anything is marked where it is two of which one is in `image.empty_labels`. `labels`
    renames labels; null leaves an image out.
    """

    def __init__(
        self,
        image: Image,
        seed: int,
        folder: str,
        table: str = "",
        by_mask: dict[str, list[int]] | None = None,
        masks: dict[str, Values] | None = None,
        channels: dict[str, str] | None = None,
        labels: dict[str, str | None] | None = None,
        partition: dict[str, Any] | None = None,
    ):
        self.image, self.seed, self.folder, self.table, self.by_mask = image, seed, folder, table, by_mask
        self.masks, self.channels, self.labels, self.partition = masks, channels, labels, partition
        self._partition = parse(partition)
        check_names("masks", masks, image.masks)
        check_names("channels", channels, image.images)

    def index(self) -> pd.DataFrame:
        cases = pd.DataFrame(self._cases(), columns=["case", "subject", "name", "images", "mask", "site", "problem"])
        return (
            self._from_table(cases)
            if self.table
            else cases.assign(label=[self._label(row) for row in cases.to_dict("records")])
        )

    def files(self) -> Iterable[str]:
        found = [ABOUT] + [name for row in self._cases() for name in [*row["images"], row["mask"]]]
        return [*found, str(self._table)] if self.table else found

    def read(self, row: dict[str, Any], record: Record) -> None:
        parts = [images.read(self._folder / name, len(self.image.size)) for name in row["images"]]
        record.spacing_mm = parts[0][1]
        shape = parts[0][0].shape[1:]
        if odd := next(
            (name for name, (planes, _) in zip(row["images"], parts, strict=True) if planes.shape[1:] != shape), ""
        ):
            raise SetError(f"{odd} has another size than {row['name']}; export both on one grid")
        planes = np.concatenate([planes for planes, _ in parts])
        if len(self._names) > 1 and len(planes) != len(self._names):
            raise SetError(f"{row['name']} has {len(planes)} channels, {ABOUT} names {self._names}")
        put_images(record, self.image.images, planes[self._order] if self._order else planes, row["name"])
        values = self._values(row) if self.image.masks else np.zeros(0)
        for name in self.image.masks:
            put_mask(record, name, selected(values, self._wanted(name)), row["mask"])

    def _values(self, row: dict[str, Any]) -> np.ndarray:
        """The label file as it is, (*S)."""
        return images.read(self._folder / row["mask"], len(self.image.size))[0][0]

    def _cases(self) -> list[dict[str, Any]]:
        ending = str(self._about.get("file_ending", ".nii.gz"))
        listed = self._about.get("training")
        if isinstance(listed, list):
            return [
                self._case(_plain(entry["image"] if isinstance(entry, dict) else entry), ending) for entry in listed
            ]
        files = [p.name for p in (self._folder / IMAGES).glob(f"*{ending}") if not p.name.startswith(".")]
        if odd := [name for name in files if not re.search(r"_\d{4}$", name.removesuffix(ending))]:
            raise SetError(
                f"{self._folder / IMAGES / odd[0]}: without `training` in {ABOUT}, names must end in _0000{ending} and"
                " on, by channel"
            )
        return [
            self._case(f"{IMAGES}/{name}{ending}", ending)
            for name in sorted({n.removesuffix(ending)[:-5] for n in files})
        ]

    def _case(self, image: str, ending: str) -> dict[str, Any]:
        """The files of one case by the name of its image, which nnU-Net's folders have with a channel's number only."""
        name = image.rpartition("/")[2].removesuffix(ending)
        many = [f"{IMAGES}/{name}_{channel:04d}{ending}" for channel in range(len(self._names))]
        found = [] if (self._folder / image).is_file() else [file for file in many if (self._folder / file).is_file()]
        files = found or [image]
        return {
            "case": name,
            "subject": name,
            "name": files[0],
            "images": files,
            "mask": f"{LABELS}/{name}{ending}",
            "site": "",
            "problem": "",
        }

    def _from_table(self, cases: pd.DataFrame) -> pd.DataFrame:
        known = cases_of(self._table, KEYS)
        for column in [c for c in ("label", "subject", "site") if c in known]:
            own = cases["case"].map(known[column])
            cases[column] = own.fillna(cases["subject"] if column == "subject" else "")
        lost = ~cases["case"].isin(known.index)
        cases.loc[lost, "problem"] = (
            cases["name"]
            + f" has no row in {self._table.name}; add one with its {known.index.name}, or take the file away"
        )
        return cases

    def _label(self, row: dict[str, Any]) -> str:
        names, empty = self.image.labels, self.image.empty_labels
        if self.by_mask is None and not (len(names) == 2 and len(empty) == 1):
            return only_label(self.image, "give source.args.table, or by_mask: {label: values of the mask}")
        rule: dict[str, Any] = self.by_mask or {empty[0]: [], next(n for n in names if n not in empty): None}
        try:
            values = self._values(row)
        except SetError:
            return ""  # the record says so, too
        return next(
            (name for name, wanted in reversed(rule.items()) if wanted == [] or selected(values, wanted).any()), ""
        )

    def _wanted(self, name: str) -> Values | None:
        """Values of the mask channel. Raises SetError where nothing tells them."""
        if self.masks and name in self.masks:
            return self.masks[name]
        known = _values_by_name(self._about.get("labels", {}))
        if name in known:
            return known[name]
        if len(self.image.masks) == 1:
            return None
        raise SetError(
            f"{self._folder / ABOUT} has no label {name!r}, it has {sorted(known)}; say in source.args.masks which"
            " values it has"
        )

    @cached_property
    def _order(self) -> list[int]:
        """The places of our image channels among the file's; none where they are in its order."""
        wanted = [(self.channels or {}).get(name, name) for name in self.image.images]
        if not self.channels and not set(wanted) & set(self._names):
            return []
        if missing := [name for name in wanted if name not in self._names]:
            raise SetError(
                f"{self._folder / ABOUT} has no channel {missing[0]!r}, it has {self._names}; see source.args.channels"
            )
        return [self._names.index(name) for name in wanted]

    @cached_property
    def _names(self) -> list[str]:
        named = self._about.get("channel_names") or self._about.get("modality") or {"0": "image"}
        return [str(name) for _, name in sorted(named.items(), key=lambda item: int(item[0]))]

    @cached_property
    def _about(self) -> dict[str, Any]:
        path = self._folder / ABOUT
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SetError(
                f"{path} cannot be read: {error}; source.args.folder must hold {ABOUT}, {IMAGES} and {LABELS}"
            ) from error
        if not isinstance(about, dict):
            raise SetError(f"{path} must be an object with `channel_names` or `modality`, and `labels`")
        return about

    @cached_property
    def _table(self) -> Path:
        return self._folder / path_of(self.table, "table", "a CSV with labels")


def _plain(name: str) -> str:
    """A path of dataset.json, "./imagesTr/a.nii.gz", within its folder."""
    path = PurePosixPath(str(name))
    if path.is_absolute() or ".." in path.parts:
        raise SetError(f"{ABOUT}: {name} leads out of its folder; paths must be relative to it, without '..'")
    return str(path)


def _values_by_name(labels: dict[str, Any]) -> dict[str, Values]:
    """dataset.json's labels by name: {"1": name} of the Decathlon, {name: 1} or {name: [1, 2]} of nnU-Net."""
    return {str(value): int(key) for key, value in labels.items()} if all(k.isdigit() for k in labels) else dict(labels)
