"""Source: a folder of images with a table."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd

from fedsynth.data import images
from fedsynth.data.manifest import FILE, SetError
from fedsynth.data.partition import parse
from fedsynth.data.slices import parse as slicing
from fedsynth.params import Image, ParamsError
from fedsynth.sources import Record, Source, path_of
from fedsynth.sources._indexed import dealt, put_images, put_mask, renamed, stamps, text_table

COLUMNS = ("image", "mask", "label", "site", "subject", "modality")


class Table(Source):
    """`folder`/manifest.csv with the columns image, mask, label, site, subject, modality; others may follow.

    Paths are relative to `folder` and stay in it; an empty mask cell means that nothing is marked. `${NAMES}` of
    environment variables in `folder` are filled in. `partition` is a fedsynth.data.partition.Partition, `labels`
    renames labels: {in the table: in image.labels}; null leaves an image out. `rows` keeps those rows alone whose
    columns have one of the values, {subject: [a, b]}. `slices` is a fedsynth.data.slices.Slices: an image is a slice of
    a volume then.

    Where image channels have the names of modalities, a record is made of one row for each of them: those of one
    subject, or, where a subject has several images, those with the same cell in a column `image_id`. Else each row is a
    record, and the image channels are the planes of its file.
    """

    def __init__(self, image: Image, seed: int, folder: str, partition: dict[str, Any] | None = None,
                 labels: dict[str, str | None] | None = None, rows: dict[str, list[str]] | None = None,
                 slices: dict[str, Any] | None = None):  # fmt: skip
        if len(image.masks) > 1:
            raise ParamsError(
                f"a table has one mask for each image, but image.channels names {len(image.masks)}: {image.masks}"
            )
        self.image, self.seed, self.folder, self.partition, self.labels = image, seed, folder, partition, labels
        self.rows, self.slices = rows, slices
        self._partition, self._slices = parse(partition), slicing(slices)
        if slices is not None and len(image.size) != 2:
            raise ParamsError(f"source.args.slices: slices have two axes, image.size is {list(image.size)}")
        self._dims = 3 if slices is not None else len(image.size)

    def sites(self) -> list[str]:
        return self._partition.names or list(dict.fromkeys(self._rows["site"]))

    def records(self, site: str) -> Iterator[Record]:
        here = self._rows[self._rows["site"] == site]
        for _, rows in here.groupby("key", sort=False):
            record = self._record(rows.to_dict("records"))
            yield from [record] if self._slices is None else self._slices.of(record)

    def look(self) -> None:
        _ = self._rows

    def paths(self) -> set[Path]:
        folder = self._folder.resolve()
        return {folder / name for name in self._named()}

    def fingerprint(self) -> str:
        """Of the table and of every file's size and time of change, as `make` looks at files: the contents may be
        hundreds of gigabytes.
        """
        return stamps(self._named(), self._inside, (self._folder / FILE).read_bytes())

    def _named(self) -> list[str]:
        """The files of images and masks in the table's rows, relative to the folder."""
        return sorted({name for column in ("image", "mask") for name in self._rows[column] if name.strip()})

    @cached_property
    def _folder(self) -> Path:
        return path_of(self.folder, "folder", f"the folder of {FILE}")

    @cached_property
    def _rows(self) -> pd.DataFrame:
        """The table with the final `site` and a `key` that rows of one image share. Raises SetError naming the file and
        what is wrong.
        """
        path = self._folder / FILE
        rows = text_table(path, COLUMNS, f"the folder of a table needs a {FILE} with the columns {', '.join(COLUMNS)}")
        if unknown := set(self.rows or {}) - set(rows.columns):
            raise SetError(
                f"{path} has no column {sorted(unknown)[0]!r}, which source.args.rows names; it has"
                f" {list(rows.columns)}"
            )
        for column, values in (self.rows or {}).items():
            rows = rows[rows[column].isin(values)].copy()
        if rows.empty:
            raise SetError(f"{path} has no rows with {self.rows}")
        needed = ["image", "subject", "site"] if self._partition.kind == "site" else ["image", "subject"]
        for column in needed:
            if (empty := rows[column].str.strip() == "").any():
                raise SetError(f"{path}: line {int(empty.idxmax()) + 2} has no {column}")
        rows = self._keyed(renamed(rows, self.labels), path)
        return dealt(rows, self._partition, self.seed, self._folder)

    def _keyed(self, rows: pd.DataFrame, path: Path) -> pd.DataFrame:
        named = [c for c in self.image.images if c in set(rows["modality"])]
        if not named:
            return rows.assign(key=np.arange(len(rows)))
        if missing := [c for c in self.image.images if c not in named]:
            raise SetError(f"{path} has no row of modality {missing[0]!r}, which image.channels names beside {named}")
        rows = rows[rows["modality"].isin(named)].copy()
        if len(named) == 1:
            return rows.assign(key=np.arange(len(rows)))
        rows["key"] = rows["site"] + "/" + rows["subject"] + "/" + rows.get("image_id", "")
        if (twice := rows.duplicated(["key", "modality"])).any():
            row = rows[twice].iloc[0]
            raise SetError(
                f"{path}: line {row.name + 2} is subject {row['subject']}'s second row of modality {row['modality']}; "
                "say in a column image_id which rows are of one image"
            )
        return rows

    def _record(self, rows: list[dict[str, Any]]) -> Record:
        order = {name: place for place, name in enumerate(self.image.images)}
        rows = sorted(rows, key=lambda r: order.get(r["modality"], 0))
        record = Record({}, rows[0]["label"], rows[0]["subject"], file=" + ".join(r["image"] for r in rows))
        try:
            self._read_images(record, rows)
            self._read_mask(record, rows)
        except SetError as error:
            record.problem = str(error)
        return record

    def _read_images(self, record: Record, rows: list[dict[str, Any]]) -> None:
        names = self.image.images
        if len(rows) == 1 and (len(names) == 1 or rows[0]["modality"] not in names):
            parts = [(names, rows[0])]
        elif [r["modality"] for r in rows] == names:
            parts = [([r["modality"]], r) for r in rows]
        else:
            raise SetError(
                f"{record.file}: subject {record.subject} has {[r['modality'] for r in rows]}, image.channels asks for"
                f" {names}"
            )
        if len({r["label"] for r in rows}) > 1:
            raise SetError(f"{record.file}: one image with several labels, {[r['label'] for r in rows]}")
        for channels, row in parts:
            planes, record.spacing_mm = images.read(self._inside(row["image"]), self._dims)
            put_images(record, channels, planes, row["image"])

    def _read_mask(self, record: Record, rows: list[dict[str, Any]]) -> None:
        if not self.image.masks:
            return
        files = sorted({r["mask"] for r in rows if r["mask"].strip()})
        if len(files) > 1:
            raise SetError(f"{record.file}: one image with several masks, {files}")
        mask = images.read(self._inside(files[0]), self._dims, mask=True)[0][0] if files else None
        put_mask(record, self.image.masks[0], mask, *files)

    def _inside(self, name: str) -> Path:
        """The file's path. A link inside the folder may lead elsewhere (data tools make such), the table may not."""
        plain = PurePosixPath(name.strip().replace("\\", "/"))
        if plain.is_absolute() or PureWindowsPath(name).drive or ".." in plain.parts:
            raise SetError(f"{name} leads out of the table's folder; paths must be relative to it, without '..'")
        return self._folder / plain
