"""IndexedSource: base class of sources that list their images in a table before reading them."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedsynth.data import images
from fedsynth.data.manifest import SetError
from fedsynth.data.partition import Partition, deal
from fedsynth.params import Image, ParamsError
from fedsynth.sources import Record, Source, path_of

Values = int | list[int]


class IndexedSource(Source):
    """A source whose images are rows of a table: `index` makes the rows, `read` fills a row's record.

    A subclass sets `image`, `seed`, `folder`, `labels` and `_partition` (fedsynth.data.partition.parse). Rows have the
    columns `name` (for messages, relative to the folder), `subject`, `label`, `site` (empty where none is known),
    `problem` (empty for a good row) and others.
    """

    image: Image
    seed: int
    folder: str
    labels: dict[str, str | None] | None
    _partition: Partition

    @abstractmethod
    def index(self) -> pd.DataFrame:
        """A row for each image. Raises SetError for what concerns all of them."""

    @abstractmethod
    def read(self, row: dict[str, Any], record: Record) -> None:
        """The row's channels into the record. Raises SetError naming the file."""

    @abstractmethod
    def files(self) -> Iterable[str]:
        """All files that the records depend on, relative to the folder."""

    def sites(self) -> list[str]:
        return self._partition.names or list(dict.fromkeys(self._rows["site"]))

    def records(self, site: str) -> Iterator[Record]:
        for row in self._rows[self._rows["site"] == site].to_dict("records"):
            record = Record({}, row["label"], row["subject"], file=row["name"], problem=row["problem"])
            if not record.problem:
                try:
                    self.read(row, record)
                except SetError as error:
                    record.problem = str(error)
            yield record

    def fingerprint(self) -> str:
        """Of every file's size and time of change, as `make` looks at files."""
        return stamps(sorted(self.files()), lambda name: self._folder / name)

    @cached_property
    def _folder(self) -> Path:
        folder = path_of(self.folder, "folder", "the folder of the images")
        if not folder.is_dir():
            raise SetError(f"{folder} is not there; source.args.folder must name the folder of the images")
        return folder

    @cached_property
    def _rows(self) -> pd.DataFrame:
        rows = self.index()
        if rows.empty:
            raise SetError(
                f"{self._folder} holds no image that this source reads; see the docstring of {type(self).__name__}"
            )
        return dealt(renamed(rows, self.labels), self._partition, self.seed, self._folder)


def dealt(rows: pd.DataFrame, partition: Partition, seed: int, where: Path) -> pd.DataFrame:
    """Rows with their final `site`: their own, or by `partition`. A `key`, where there is one, is shared by the rows of
    one image.
    """
    bad = (rows["problem"] != "") if "problem" in rows else pd.Series(False, index=rows.index)
    if partition.kind == "site":
        lost = (rows["site"] == "") & ~bad
        if lost.any() or (rows["site"] == "").all():
            raise SetError(
                f"{where}: no site is known of {rows.loc[rows['site'] == '', 'name'].iloc[0]}; "
                "give source.args.partition a kind and sites, or a table with a column site"
            )
        sites = rows["site"].where(rows["site"] != "")
    else:
        unique = (rows.drop_duplicates("key") if "key" in rows else rows[~bad]).groupby("subject")
        subjects = pd.DataFrame({"label": unique["label"].agg(_most), "images": unique.size()}).reset_index()
        sites = rows["subject"].map(deal(subjects, partition, seed))
    # What cannot be used is of nobody known, perhaps, and must be seen somewhere: at the first site.
    return rows.assign(site=sites.fillna(partition.names[0] if partition.names else sites.dropna().iloc[0]))


def _most(labels: pd.Series) -> str:
    """The most frequent label, the first by name where two are as frequent."""
    return str(labels.mode().iloc[0])


def renamed(rows: pd.DataFrame, labels: dict[str, str | None] | None) -> pd.DataFrame:
    """Rows with labels renamed, {in the table: in image.labels}; those whose label becomes null are left out."""
    names = labels or {}
    kept = rows[~rows["label"].isin([old for old, new in names.items() if new is None])]
    return kept.assign(label=kept["label"].replace({old: new for old, new in names.items() if new is not None}))


def stamps(names: Iterable[str], where: Callable[[str], Path], start: bytes = b"") -> str:
    """A hash over names, sizes and times of change; a file that cannot be looked at counts as such."""
    found = hashlib.sha256(start)
    for name in names:
        try:
            about = where(name).stat()
        except (SetError, OSError) as error:  # its record says so, too
            found.update(f"{name}\0{type(error).__name__}\n".encode())
            continue
        found.update(f"{name}\0{about.st_size}\0{about.st_mtime_ns}\n".encode())
    return found.hexdigest()


def text_table(path: Path, columns: Sequence[str], what: str) -> pd.DataFrame:
    """A CSV (or, by its name, TSV) as text. Raises SetError naming the file and what it lacks; `what` says what it
    should be.
    """
    if not path.is_file():
        raise SetError(f"{path} is not there; {what}")
    try:
        rows = pd.read_csv(
            path, dtype=str, keep_default_na=False, encoding="utf-8-sig", sep="\t" if path.suffix == ".tsv" else ","
        )
    except ValueError as error:  # of pandas' parser and of the encoding
        raise SetError(f"{path} is not a readable {path.suffix[1:].upper()}: {error}") from error
    if missing := [c for c in columns if c not in rows.columns]:
        raise SetError(f"{path} lacks the columns {missing}; it has {list(rows.columns)}")
    if rows.empty:
        raise SetError(f"{path} has no rows")
    return rows


def cases_of(path: Path, keys: Sequence[str]) -> pd.DataFrame:
    """label, and subject and site where it has them, of a table of images, by the first of `keys` that is a column of
    it.

    Raises SetError naming the file, for two rows of one image that differ, too.
    """
    table = text_table(
        path, ["label"], f"source.args.table must name a CSV with the columns label and {' or '.join(keys)}"
    )
    if (key := next((k for k in keys if k in table.columns), None)) is None:
        raise SetError(f"{path} has none of the columns {', '.join(keys)}; it has {list(table.columns)}")
    table = table[
        list(dict.fromkeys([key, *(c for c in ("label", "subject", "site") if c in table.columns)]))
    ].drop_duplicates()
    if (twice := table[key].duplicated()).any():
        line = int(twice.idxmax())
        raise SetError(f"{path}: line {line + 2} says something else of its {key} than a line before; keep one of them")
    return table.set_index(key, drop=False)


def only_label(image: Image, what: str) -> str:
    """The label of images of which no table tells one. Raises ParamsError where image.labels leaves a choice."""
    if len(image.labels) > 1:
        raise ParamsError(f"image.labels names {image.labels}, and nothing says which an image has: {what}")
    return image.labels[0]


def check_names(argument: str, given: dict[str, Any] | None, known: list[str]) -> None:
    """Raises ParamsError for an argument by channel that names others than image.channels."""
    if unknown := sorted(set(given or {}) - set(known)):
        raise ParamsError(f"source.args.{argument} names {unknown}, image.channels has {known}")


def one_of(argument: str, value: str, *known: str) -> None:
    if value not in known:
        raise ParamsError(f"source.args.{argument}: {' or '.join(known)}, not {value!r}")


def put_images(record: Record, names: list[str], planes: np.ndarray, file: str) -> None:
    """Planes (C, *S) as the image channels `names`, as fedsynth.data.images.as_planes allows. Raises SetError naming
    the file.
    """
    try:
        fitting = images.as_planes(planes, len(names))
    except SetError as error:
        raise SetError(f"{file} {error}") from error
    record.channels |= dict(zip(names, fitting, strict=True))
    first, shape = next((name, plane.shape) for name, plane in record.channels.items())
    if fitting.shape[1:] != shape:
        raise SetError(f"{record.file}: {names[0]} is {fitting.shape[1:]}, {first} is {shape}")


def put_mask(record: Record, name: str, mask: np.ndarray | None, file: str = "") -> None:
    """A mask (*S), or None for one in which nothing is marked. Raises SetError naming file and both sizes where it has
    not its image's.
    """
    shape = next(iter(record.channels.values())).shape
    record.channels[name] = np.zeros(shape, np.float32)
    if mask is not None:
        record.mask_shape = mask.shape
        if mask.shape != shape:
            raise SetError(f"{file} is {mask.shape}, its image {record.file} is {shape}")
        record.channels[name] = mask.astype(np.float32)


def selected(values: np.ndarray, wanted: Values | None) -> np.ndarray:
    """Where an array of integers holds one of the values; where it is above 0, if none are named."""
    return values > 0 if wanted is None else np.isin(values, wanted)
