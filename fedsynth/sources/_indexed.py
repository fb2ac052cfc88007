"""IndexedSource: base class of sources that list their images in a table before reading them."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedsynth.data import masks
from fedsynth.data.manifest import SetError
from fedsynth.data.masks import Values
from fedsynth.data.partition import Partition, deal
from fedsynth.data.planes import Planes, choose, upright
from fedsynth.data.slices import Slices
from fedsynth.data.slices import parse as slicing
from fedsynth.params import Image, ParamsError
from fedsynth.params.names import of_site
from fedsynth.sources import LISTED, Record, Source, path_of
from fedsynth.sources._tables import at_most, renamed


class RowSource(Source):
    """A source whose images are rows with a column `site`: its own, or by `_partition`. With `_slices` what is read is
    a volume, and its slices are the images.
    """

    image: Image
    _partition: Partition
    _slices: Slices | None = None

    @property
    @abstractmethod
    def _rows(self) -> pd.DataFrame:
        """The rows with their final `site`. Raises SetError for what concerns all of them."""

    @property
    @abstractmethod
    def _folder(self) -> Path:
        """The folder to which names of files are relative."""

    @abstractmethod
    def files(self) -> Iterable[str]:
        """All files that the records depend on, relative to the folder."""

    def sites(self) -> list[str]:
        return self._partition.names or list(dict.fromkeys(self._rows["site"]))

    def look(self) -> None:
        _ = self._rows

    def paths(self) -> set[Path]:
        folder = self._folder.resolve()
        return {folder / name for name in self.files()}

    def listed(self) -> pd.DataFrame:
        rows = self._rows
        if "problem" in rows:
            rows = rows[rows["problem"] == ""]
        rows = rows.drop_duplicates("key") if "key" in rows else rows
        return rows.reindex(columns=LISTED, fill_value="")

    def parts(self, read: Record) -> Iterator[Record]:
        """The images of what was read: itself, or its slices."""
        return iter([read]) if self._slices is None else self._slices.of(read, self.image)


class IndexedSource(RowSource):
    """A source whose images are rows of a table: `index` makes the rows, `read` fills a row's record.

    A subclass sets `image`, `seed`, `folder`, `labels` and `_partition` (fedsynth.data.partition.parse). Rows have the
    columns `name` (for messages, relative to the folder), `subject`, `label`, `site` (empty where none is known),
    `problem` (empty for a good row), perhaps `split`, and others.
    """

    seed: int
    folder: str
    labels: dict[str, str | None] | None
    at_most: int | None = None  # images of each class at each site

    @abstractmethod
    def index(self) -> pd.DataFrame:
        """A row for each image. Raises SetError for what concerns all of them."""

    @abstractmethod
    def read(self, row: dict[str, Any], record: Record) -> None:
        """The row's channels into the record. Raises SetError naming the file."""

    def units(self, site: str) -> Sequence[dict[str, Any]]:
        return self._rows[self._rows["site"] == site].to_dict("records")

    def of_unit(self, site: str, unit: dict[str, Any]) -> Iterator[Record]:
        record = Record(
            {}, unit["label"], unit["subject"], file=unit["name"], problem=unit["problem"], split=unit.get("split", ""),
            sex=unit.get("sex", ""), age=unit.get("age", ""),
        )  # fmt: skip
        if not record.problem:
            try:
                self.read(unit, record)
            except SetError as error:
                record.problem = str(error)
        yield from self.parts(record)

    def depends(self, row: dict[str, Any]) -> tuple[Iterable[str], Any] | None:
        """What a row's records are made of: files, relative to the folder, and what else tells of them, in words that
        are the same in another process. None where that is not known, so that they are always read.
        """
        return None

    def stamp(self, site: str, unit: dict[str, Any]) -> str:
        known = self.depends(unit)
        return "" if known is None else stamps(known[0], lambda name: self._folder / name, repr(known[1]).encode())

    def fingerprint(self) -> str:
        """Of every file's size and time of change, as `make` looks at files."""
        return stamps(sorted(self.files()), lambda name: self._folder / name)

    @property
    def _dims(self) -> int:
        """Spatial axes of a file."""
        return 3 if self._slices else len(self.image.size)

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
        rows = dealt(self.renamed(rows), self._partition, self.seed, self._folder)
        return at_most(rows, self.at_most, self.seed)

    def renamed(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows with the labels of `image.labels`."""
        return renamed(rows, self.labels)


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
        _nameable(sites.dropna(), rows, where)
        _spelt_alike(sites.dropna().unique(), where)
    else:
        unique = (rows.drop_duplicates("key") if "key" in rows else rows[~bad]).groupby("subject")
        subjects = pd.DataFrame({"label": unique["label"].agg(_most), "images": unique.size()}).reset_index()
        # where all are problems there is nobody to deal, and they must be seen all the same
        sites = rows["subject"].map(deal(subjects, partition, seed) if len(subjects) else {})
    # What cannot be used is of nobody known, perhaps, and must be seen somewhere: at the first site.
    return rows.assign(site=sites.fillna(partition.names[0] if partition.names else sites.dropna().iloc[0]))


def _nameable(sites: pd.Series, rows: pd.DataFrame, where: Path) -> None:
    """Raises SetError naming the row of a text that cannot name a site."""
    for row, site in sites.drop_duplicates().items():
        if said := of_site(site):
            at = f"line {row}" if rows.index.name == "line" else rows.loc[row, "name"]
            raise SetError(f"{where}: {at}: the site {site!r}: {said}")


def _spelt_alike(sites: Iterable[str], where: Path) -> None:
    """Raises SetError for two names of sites that differ by upper and lower case alone: one site, or one folder."""
    found: dict[str, str] = {}
    for site in sites:
        if (other := found.setdefault(site.casefold(), site)) != site:
            raise SetError(f"{where}: the sites {other!r} and {site!r} differ by upper and lower case alone; write one")


def _most(labels: pd.Series) -> str:
    """The most frequent label, the first by name where two are as frequent."""
    return str(labels.mode().iloc[0])


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


def put_images(record: Record, image: Image, names: list[str], planes: Planes, file: str) -> None:
    """Planes of a file into the record as the image channels `names` (fedsynth.data.planes.choose). Raises SetError
    naming the file.
    """
    try:
        found = choose(planes, names, image)
    except SetError as error:
        raise SetError(f"{file} {str(error).strip()}") from error
    if not record.channels:
        record.spacing_mm, record.exif = planes.grid.spacing_mm, planes.exif
    record.channels |= dict(zip(names, found.values, strict=True))
    record.grids |= dict.fromkeys(names, planes.grid)
    record.ranges |= dict.fromkeys(names, planes.range) if planes.range else {}


def put_masks(record: Record, wanted: Mapping[str, Values | None], planes: Planes, file: str) -> np.ndarray:
    """The mask channels that a file holds: of each the values that mark it, None for all above 0. Returns the file's
    labels (*S) int. Raises SetError naming the file.
    """
    planes = _as_image(record, planes, file)
    mask = masks.read(planes, file)
    record.mask_shape = planes.shape
    record.warnings += mask.warnings + _unnamed(mask.labels, list(wanted.values()), planes, file)
    record.channels |= {name: masks.selected(mask.labels, values).astype(np.float32) for name, values in wanted.items()}
    record.grids |= dict.fromkeys(wanted, planes.grid)
    return mask.labels


def _unnamed(labels: np.ndarray, wanted: list[Values | None], planes: Planes, file: str) -> list[str]:
    """What to say of a picture that marks nothing by the values asked for: 255 is usual, where 1 is meant."""
    if planes.range is None or not labels.any() or any(masks.selected(labels, values).any() for values in wanted):
        return []
    return [f"{file} has the values {', '.join(map(str, np.unique(labels)))}, and none of {wanted} that mark something"]


def slices_of(entry: dict[str, Any] | None, image: Image) -> Slices | None:
    """A source's argument `slices`, checked. Raises ParamsError where image.size is not that of slices."""
    if entry is not None and len(image.size) != 2:
        raise ParamsError(f"source.args.slices: slices have two axes, image.size is {list(image.size)}")
    return slicing(entry)


def _as_image(record: Record, planes: Planes, file: str) -> Planes:
    """A mask turned as its image was by EXIF, where it was drawn on the picture as stored. Raises SetError where it
    cannot be told.
    """
    if record.exif in (1, planes.exif):
        return planes
    shape = next(iter(record.channels.values())).shape
    turned = shape[::-1] if record.exif >= 5 else shape
    if planes.exif == 1 and planes.shape == shape != turned:
        return planes  # drawn on the picture as it is shown
    if planes.exif == 1 and planes.shape == turned != shape:
        record.notes.append(f"{file} turned as EXIF says of its image")
        return upright(planes, record.exif)
    raise SetError(
        f"{record.file} has the EXIF orientation {record.exif}, its mask {file} has {planes.exif}: which way up the"
        " mask is cannot be told; save both upright, without the EXIF tag"
    )
