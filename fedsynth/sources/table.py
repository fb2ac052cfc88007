"""Source: a folder of images with a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pandas as pd

from fedsynth.data import reading
from fedsynth.data.manifest import FILE, SetError
from fedsynth.data.masks import Values
from fedsynth.data.partition import parse
from fedsynth.data.planes import COLOURS, key
from fedsynth.params import Image, ParamsError
from fedsynth.sources import Record, path_of
from fedsynth.sources._indexed import RowSource, check_names, dealt, put_images, put_masks, slices_of, stamps
from fedsynth.sources._tables import at_most as first_of
from fedsynth.sources._tables import check_at_most, chosen, once, renamed, splits_of, text_table

COLUMNS = ("image", "label", "site", "subject", "modality")
MASK = "mask"
Rows = list[dict[str, Any]]


class Table(RowSource):
    """`folder`/manifest.csv with the columns image, mask, label, site, subject, modality; others may follow.

    Paths are relative to `folder` and stay in it. `${NAMES}` of environment variables in `folder` are filled in.
    `table` is another CSV than manifest.csv, relative to `folder` or with `${NAMES}`: one beside params.yaml is
    `${FEDSYNTH_ROOT}/manifest.csv`.
    `partition` is a fedsynth.data.partition.Partition. `labels` renames labels: {in the table: in image.labels}; null
    leaves an image out. `rows` keeps those rows alone whose columns have one of the values, {subject: [a, b]},
    `exclude` leaves such rows out, and `at_most` takes so many images of each class at each site, for a trial. `slices`
    is a fedsynth.data.slices.Slices: an image is a slice of a volume then. A column `split` (train, val, test) says
    where an image belongs; an empty cell leaves it to ingest. Columns `sex` (F, M, O) and `age` (years), where there
    are any, become a word and a band in the site's manifest, for calibration by group (fedsynth/data/people.py).

    Where image channels have the names of modalities (upper and lower case, blanks, - and _ aside), a record is made of
    one row for each of them: those of one subject, or, where a subject has several images, those with the same cell in
    a column `image_id`. Else each row is a record, and the image channels are the planes of its file.

    A mask channel is the file in a column `mask_<channel>`, or else the one in `mask`: all that is above 0, or the
    values that `masks` names, {lesion: [1, 2], organ: 3}. An empty cell is a mask that is not known (image.unmarked,
    image.empty_labels).
    """

    def __init__(self, image: Image, seed: int, folder: str, partition: dict[str, Any] | None = None,
                 labels: dict[str, str | None] | None = None, rows: dict[str, list[str]] | None = None,
                 exclude: dict[str, list[str]] | None = None, at_most: int | None = None,
                 masks: dict[str, Values] | None = None, slices: dict[str, Any] | None = None,
                 table: str = FILE):  # fmt: skip
        self.image, self.seed, self.folder, self.partition, self.labels = image, seed, folder, partition, labels
        self.rows, self.exclude, self.at_most, self.masks, self.slices = rows, exclude, at_most, masks, slices
        self.table = table
        self._partition, self._slices = parse(partition), slices_of(slices, image)
        check_names("masks", masks, image.masks)
        check_at_most(at_most)
        self._dims = 3 if slices is not None else len(image.size)
        self._values = {name: _integers(name, values) for name, values in (masks or {}).items()}

    def units(self, site: str) -> Sequence[Rows]:
        of_key: dict[Any, Rows] = {}
        for row in self._rows[self._rows["site"] == site].to_dict("records"):
            of_key.setdefault(row["key"], []).append(row)
        return list(of_key.values())

    def of_unit(self, site: str, unit: Rows) -> Iterator[Record]:
        yield from self.parts(self._record(unit))

    def stamp(self, site: str, unit: Rows) -> str:
        said = [{column: cell for column, cell in row.items() if column != "key"} for row in unit]
        columns = ["image", *dict.fromkeys(self._columns.values())]
        files = [row[column] for row in unit for column in columns if row[column]]
        return stamps(files, lambda name: reading.find(self._inside(name)), repr(said).encode())

    def fingerprint(self) -> str:
        """Of the table and of every file's size and time of change, as `make` looks at files: the contents may be
        hundreds of gigabytes.
        """
        return stamps(self.files(), lambda name: reading.find(self._inside(name)), self._path.read_bytes())

    def files(self) -> list[str]:
        """The files of images and masks in the table's rows, relative to the folder."""
        columns = ["image", *dict.fromkeys(self._columns.values())]
        return sorted({name for column in columns for name in self._rows[column] if name})

    @cached_property
    def _folder(self) -> Path:
        return path_of(self.folder, "folder", f"the folder of {FILE}")

    @property
    def _path(self) -> Path:
        return self._folder / path_of(self.table, "table", "the folder of the table")

    @cached_property
    def _table(self) -> pd.DataFrame:
        """The rows that are asked for, with their `split`. Raises SetError naming the file, line and column."""
        needed = [c for c in COLUMNS if c != "site" or self._partition.kind == "site"]
        said = f"the folder of a table needs a {FILE} with the columns image, mask, {', '.join(COLUMNS[1:])}"
        table = chosen(text_table(self._path, needed, said), self.rows, self.exclude, self._path)
        for column in [c for c in needed if c not in ("label", "modality")]:
            if (empty := table[column] == "").any():
                raise SetError(f"{self._path}: line {empty.idxmax()} has no {column}")
        return table.assign(site=table.get("site", ""), split=splits_of(table, self._path))

    @cached_property
    def _columns(self) -> dict[str, str]:
        """The column of each mask channel. Raises SetError where that is not clear."""
        own = {key(c): c for c in self._table.columns}
        found = {name: own.get(key(f"{MASK}_{name}"), MASK) for name in self.image.masks}
        if MASK in found.values() and MASK not in self._table:
            raise SetError(f"{self._path} lacks the columns [{MASK!r}]; it has {list(self._table.columns)}")
        shared = [name for name, column in found.items() if column == MASK]
        if len(shared) > 1 and (unsaid := [name for name in shared if name not in self._values]):
            raise SetError(
                f"{self._path}: image.channels names several masks; give {unsaid[0]!r} a column {MASK}_{unsaid[0]}, or"
                f" say which values of {MASK} mark it: source.args.masks: {{{unsaid[0]}: 1}}"
            )
        return found

    @cached_property
    def _rows(self) -> pd.DataFrame:
        """The table with the final `site`, the image `channel` of each row (empty: all of them), and a `key` that rows
        of one image share.
        """
        assert self._columns is not None  # before anything is read
        rows = self._keyed(renamed(self._table, self.labels))
        once(((line, _plain(name)) for line, name in rows["image"].items()), self._path)
        return first_of(dealt(rows, self._partition, self.seed, self._folder), self.at_most, self.seed)

    def _keyed(self, rows: pd.DataFrame) -> pd.DataFrame:
        names = {key(name): name for name in self.image.images}
        rows = rows.assign(channel=[names.get(key(m), "") for m in rows["modality"]])
        alone = rows.assign(key=range(len(rows)))
        named = [name for name in self.image.images if name in set(rows["channel"])]
        there = ", ".join(dict.fromkeys(rows["modality"]))
        if not named:
            if len(names) > 1 and rows["modality"].nunique() > 1 and not set(names) <= set(COLOURS):
                raise SetError(f"{self._path} has the modalities {there}, and none of the channels {', '.join(names)}")
            return alone
        if missing := [name for name in self.image.images if name not in (*named, *self.image.may_lack)]:
            raise SetError(
                f"{self._path} has no row of modality {missing[0]!r}, which image.channels names beside {named}; it has"
                f" {there}"
            )
        if len(named) == 1:
            return alone[alone["channel"] != ""]
        rows = rows[rows["channel"] != ""]
        rows = rows.assign(key=rows["site"] + "/" + rows["subject"] + "/" + rows.get("image_id", ""))
        if (twice := rows.duplicated(["key", "channel"])).any():
            line = twice.idxmax()
            raise SetError(
                f"{self._path}: line {line} is subject {rows.loc[line, 'subject']}'s second row of modality"
                f" {rows.loc[line, 'modality']}; say in a column image_id which rows are of one image"
            )
        return rows

    def _record(self, rows: Rows) -> Record:
        rows = sorted(rows, key=lambda r: self.image.images.index(r["channel"]) if r["channel"] else 0)
        first = rows[0]
        file = " + ".join(r["image"] for r in rows)
        person = {"sex": first.get("sex", ""), "age": first.get("age", "")}
        record = Record({}, first["label"], first["subject"], file=file, split=first["split"], **person)
        try:
            self._agree(record, rows)
            self._read_images(record, rows)
            self._read_masks(record, rows)
        except SetError as error:
            record.problem = str(error)
        return record

    def _agree(self, record: Record, rows: Rows) -> None:
        """Raises SetError where rows of one image say several things, or lack a channel."""
        for what in ("label", "split"):
            if len(said := {r[what] for r in rows}) > 1:
                raise SetError(f"{record.file}: one image with several {what}s, {sorted(said)}")
        there = [r["channel"] for r in rows]
        wanted = [name for name in self.image.images if name not in self.image.may_lack]
        if "" not in there and (missing := [name for name in wanted if name not in there]):
            raise SetError(
                f"{record.file}: subject {record.subject} has {there}, image.channels asks for {missing}, too; add a"
                " row of that modality, or name it in image.may_lack"
            )

    def _read_images(self, record: Record, rows: Rows) -> None:
        for row in rows:
            planes = reading.read(self._inside(row["image"]), self._dims)
            names = [row["channel"]] if row["channel"] else self.image.images
            put_images(record, self.image, names, planes, row["image"])

    def _read_masks(self, record: Record, rows: Rows) -> None:
        columns = dict.fromkeys(self._columns.values())
        for column in columns:
            files = sorted({r[column] for r in rows if r[column]})
            if len(files) > 1:
                raise SetError(f"{record.file}: one image with several masks in the column {column}, {files}")
            if files:
                wanted = {name: self._values.get(name) for name, of in self._columns.items() if of == column}
                put_masks(record, wanted, reading.read(self._inside(files[0]), self._dims, mask=True), files[0])
        if columns and MASK not in columns and any(r.get(MASK) for r in rows):
            raise SetError(f"{record.file} has masks in the columns {MASK} and {', '.join(columns)}; keep one of them")

    def _inside(self, name: str) -> Path:
        """The file's path. A link inside the folder may lead elsewhere (data tools make such), the table may not."""
        plain = PurePosixPath(_plain(name))
        if plain.is_absolute() or PureWindowsPath(name).drive or ".." in plain.parts:
            raise SetError(f"{name} leads out of the table's folder; paths must be relative to it, without '..'")
        return self._folder / plain


def _plain(name: str) -> str:
    """ "images/a.png" of "./images\\a.png"."""
    return str(PurePosixPath(name.replace("\\", "/")))


def _integers(name: str, values: Any) -> Values:
    """Values of a mask's file; numbers in quotes are numbers."""
    listed = values if isinstance(values, list) else [values]
    try:
        if any(isinstance(value, bool | float) for value in listed):
            raise ValueError("no whole number")
        found = [int(value) for value in listed]
    except (TypeError, ValueError) as error:
        raise ParamsError(f"source.args.masks.{name}: values are whole numbers, [1, 2] or 3, not {values!r}") from error
    return found if isinstance(values, list) else found[0]
