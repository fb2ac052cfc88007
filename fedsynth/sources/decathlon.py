"""Source: volumes and pictures in the folders of the Medical Segmentation Decathlon or nnU-Net."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedsynth.data import masks, reading
from fedsynth.data.manifest import SetError
from fedsynth.data.masks import Values
from fedsynth.data.partition import parse
from fedsynth.data.people import PERSON
from fedsynth.data.planes import Planes
from fedsynth.params import Image
from fedsynth.sources import Record, path_of
from fedsynth.sources import _dataset_json as dataset_json
from fedsynth.sources._dataset_json import ABOUT, About
from fedsynth.sources._decathlon_channels import Channels
from fedsynth.sources._decathlon_files import Case, Files
from fedsynth.sources._indexed import IndexedSource, check_names, only_label, put_masks, slices_of
from fedsynth.sources._label_values import LabelValues
from fedsynth.sources._tables import cases_of, check_at_most, chosen, meant, text, text_table

KEYS = ("image_id", "case", "subject")
RULE = "by_mask "  # begins the names of mask channels that tell a slice's label, and are then taken away


class Decathlon(IndexedSource):
    """`folder`/dataset.json, imagesTr and labelsTr (Antonelli et al. 2022, arXiv:2106.05735; nnU-Net v2: Isensee et al.
    2021, doi:10.1038/s41592-020-01008-z). What has no labels (imagesTs) is not read.

    The cases are those of nnU-Net's `dataset`, or of the list `training` (and of `validation`, for the split val, and
    `test`, where they have labels), with the images and labels that it names; or else
    imagesTr/<case>_0000<file_ending>, _0001 and on, a file for each channel, with labelsTr/<case><file_ending>. One
    file may hold all channels, on a fourth axis or as colours.

    Image channels are dataset.json's of the same names (case, "-" and "_" aside); `channels` says which where ours have
    others, by name or number: {t1: T1w}, {t1: 1}. The only channel of dataset.json may have any name.

    `masks` says which values of a label file become which mask channel: {lesion: [1, 2]}. By default those of the
    channel's own name in dataset.json (nnU-Net's regions, too), or, for one mask channel, all that it names but the
    background. Voxels that nnU-Net is to `ignore` are not marked, nor is a value that nobody names; a label file with
    no other values is a problem.

    An image's label is that of `table`, a CSV (relative to `folder`, or `${NAMES}`) with the columns label and
    image_id, case or subject: the first of them that is there names the case. Its columns subject, site and split are
    taken where it has them; else a case is a subject, and `partition`, a fedsynth.data.partition.Partition, says how
    they come to sites. Without a table the label is the last of `by_mask` of whose values the label file holds one, an
    empty list being for what is there always: {none: [], oedema: [2], tumour: [1, 3]}. Without either it is
    `image.labels` where that is one, or whether anything is marked where it is two of which one is in
    `image.empty_labels`. `labels` renames labels; null leaves an image out. `exclude` leaves out cases by their case,
    label, subject or a column of the table, {case: [c7, c9]}; `at_most` takes so many of each class at each site, for a
    trial.

    `slices` is a fedsynth.data.slices.Slices: an image is a slice of a volume then, and by its mask each has its own
    label.
    """

    def __init__(
        self,
        image: Image,
        seed: int,
        folder: str,
        table: str = "",
        by_mask: dict[str, list[int]] | None = None,
        masks: dict[str, Values] | None = None,
        channels: dict[str, str | int] | None = None,
        labels: dict[str, str | None] | None = None,
        exclude: dict[str, list[str]] | None = None,
        at_most: int | None = None,
        partition: dict[str, Any] | None = None,
        slices: dict[str, Any] | None = None,
    ):
        self.image, self.seed, self.folder, self.table, self.by_mask = image, seed, folder, table, by_mask
        self.masks, self.channels, self.labels, self.partition = masks, channels, labels, partition
        self.exclude, self.at_most, self.slices = exclude, at_most, slices
        self._slices, self._partition = slices_of(slices, image), parse(partition)
        check_at_most(at_most)
        check_names("masks", masks, image.masks)
        check_names("channels", channels, image.images)

    def index(self) -> pd.DataFrame:
        of = [{"site": "", "subject": case.case, "name": case.name} | asdict(case) for case in self._cases]
        rows = pd.DataFrame(of)
        if rows.empty:
            return rows
        _ = self._channels.numbers, self._values.wanted  # what dataset.json lacks is one mistake, not one of each image
        _ = self._renames if self._slices and self._rules else {}
        rows = self._from_table(rows) if self.table else self._by_mask(rows)
        if not self.exclude:
            return rows
        return rows.loc[chosen(self._said(rows), None, self.exclude, self._folder).index]

    def renamed(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Labels of slices are renamed when they are cut."""
        return rows if self._slices and self._rules else super().renamed(rows)

    def look(self) -> None:
        """Labels that only the label files tell are not looked for: that would read all of them."""
        if self.table or not self._rules:
            super().look()
        _ = self._cases, self._channels.numbers, self._values.wanted

    def files(self) -> Iterable[str]:
        found = [ABOUT, *(file for case in self._cases for file in [*case.images.values(), case.mask] if file)]
        return [*found, str(self._table)] if self.table else found

    def depends(self, row: dict[str, Any]) -> tuple[Iterable[str], Any]:
        files = [*row["images"].values(), *[row["mask"]] * bool(row["mask"])]
        return files, (row, replace(self._about, entries=None))

    def read(self, row: dict[str, Any], record: Record) -> None:
        self._channels.put(
            record, row["images"], row["whole"], lambda file: reading.read(self._folder / file, self._dims)
        )
        rules = {RULE + name: values for name, values in self._rules.items() if self._slices}
        if row["mask"] and self._values.wanted | rules:
            labels = put_masks(record, self._values.wanted | rules, self._label_file(row["mask"]), row["mask"])
            self._values.tell(labels, row["mask"], record)

    def parts(self, read: Record) -> Iterator[Record]:
        if self._slices is None or not self._rules:
            yield from super().parts(read)
            return
        channels = self.image.channels | {RULE + name: "mask" for name in self._rules}
        for one in self._slices.of(read, self.image.model_copy(update={"channels": channels})):
            planes = {name: one.channels.pop(RULE + name, np.zeros(1)) for name in self._rules}
            one.label = self._values.label({name for name, plane in planes.items() if plane.any()})
            if not (one.label or one.problem):
                one.problem = f"{one.file} holds none of the values of source.args.by_mask"
            if (label := self._renames.get(one.label, one.label)) is not None:
                yield replace(one, label=label)

    def _label_file(self, file: str) -> Planes:
        return masks.plain(reading.read(self._folder / file, self._dims, mask=True), file)

    def _from_table(self, cases: pd.DataFrame) -> pd.DataFrame:
        known = cases_of(self._table, KEYS)
        for column in [c for c in ("label", "subject", "site", "split", *PERSON) if c in known]:
            own = cases["case"].map(known[column])
            cases[column] = own.fillna(cases["subject"] if column == "subject" else "")
        lost = ~cases["case"].isin(known.index)
        cases.loc[lost, "problem"] = (
            cases["name"]
            + f" has no row in {self._table.name}; add one with its {known.index.name}, or take the file away"
        )
        return cases

    def _said(self, rows: pd.DataFrame) -> pd.DataFrame:
        """What is said of each case, in its columns and in those of the table."""
        found = rows[[c for c in ("case", "label", "subject", "site", "split") if c in rows]]
        if not self.table:
            return found
        table = text_table(self._table, ["label"], "a CSV with labels")
        table = table.drop_duplicates(name := next(key for key in KEYS if key in table)).set_index(name)
        others = {c: rows["case"].map(table[c]).fillna("") for c in table if c not in found}
        return found.assign(**others)

    def _by_mask(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows with the labels that their masks tell; what cannot be told is their problem."""
        if not self._rules:
            what = "give source.args.table, or by_mask: {label: values of the mask}"
            return rows.assign(label=only_label(self.image, what))
        labels = []
        for place, row in rows.iterrows():
            try:
                labels.append(self._label(row))
            except SetError as error:
                labels.append("")
                rows.loc[place, "problem"] = row["problem"] or str(error)
        return rows.assign(label=labels)

    def _label(self, row: pd.Series) -> str:
        if not row["mask"] and self.image.unmarked != "healthy":
            raise SetError(f"{row['name']} has no label file, and its label is told by that; add it, or a table")
        labels = masks.read(self._label_file(row["mask"]), row["mask"]).labels if row["mask"] else np.zeros(1, int)
        if not (label := self._values.of(labels)):
            raise SetError(f"{row['mask'] or row['name']} holds none of the values of source.args.by_mask")
        return label

    @cached_property
    def _renames(self) -> dict[str, str | None]:
        """New labels of slices by those of `by_mask`. Raises SetError for one that is none of them."""
        said = {old: meant(old, list(self._rules)) for old in self.labels or {}}
        if unknown := [old for old, found in said.items() if len(found) != 1]:
            raise SetError(
                f"source.args.labels.{unknown[0]}: by_mask has no such label; it has {', '.join(self._rules)}"
            )
        new = {said[old][0]: new for old, new in (self.labels or {}).items()}
        return {old: None if label is None else text(label) for old, label in new.items()}

    @property
    def _cases(self) -> list[Case]:
        return self._files.cases

    @cached_property
    def _files(self) -> Files:
        return Files(self._folder, self._about, bool(self.image.masks or self._rules))

    @cached_property
    def _channels(self) -> Channels:
        return Channels(self.image, self._about, self._folder / ABOUT, self.channels)

    @cached_property
    def _values(self) -> LabelValues:
        return LabelValues(self.image, self._about, self._folder / ABOUT, self.masks, self.by_mask)

    @property
    def _rules(self) -> dict[str, Values | None]:
        return {} if self.table else self._values.rules

    @cached_property
    def _about(self) -> About:
        return dataset_json.read(self._folder)

    @cached_property
    def _table(self) -> Path:
        return self._folder / path_of(self.table, "table", "a CSV with labels")
