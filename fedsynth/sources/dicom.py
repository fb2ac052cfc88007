"""Source: DICOM series with segmentations and contours, de-identified on reading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pandas as pd

from fedsynth.data.dicom import drawings, files, images, masks, series
from fedsynth.data.dicom.drawings import Drawing
from fedsynth.data.dicom.masks import Wanted
from fedsynth.data.dicom.scan import Scan, scan
from fedsynth.data.dicom.series import Series
from fedsynth.data.manifest import SetError
from fedsynth.data.partition import parse
from fedsynth.data.people import PERSON
from fedsynth.data.record import Volume
from fedsynth.params import Image, ParamsError
from fedsynth.sources import Record, path_of
from fedsynth.sources._indexed import (
    IndexedSource,
    check_names,
    only_label,
    put_images,
    put_masks,
    slices_of,
)
from fedsynth.sources._tables import cases_of

KEYS = ("series", "study", "patient", "folder")
COLUMNS = ["name", "subject", "label", "site", *PERSON, "problem", "warnings", "series", "slice"]


class DICOM(IndexedSource):
    """Every series of images under `folder`, in whatever folders: a SeriesInstanceUID is one (`pip install
    fedsynth[dicom]`).

    With an `image.size` of three axes a series is a volume: its slices by position along their normal, or an enhanced
    file's frames; turned to z up, y to the back, x to the left. With two axes `slices` says what is an image: "all",
    each slice; "middle"; a number from 0; or {axis, every, least} of the volume (fedsynth.data.slices.Slices). Values
    are rescaled by slope and intercept, MONOCHROME1 is inverted, padding that reaches the border is outside of the
    body.

    Localisers, dose reports, and secondary captures beside a scanner's images are left out, and so are series of
    several directions; a warning counts them.

    One image channel is each series, or those whose SeriesDescription fits the pattern of `channels`, {t1: "*T1*"}.
    Several channels are, with such patterns, the series of one study on one grid; without, the colours of a series.

    Masks are DICOM segmentations and RT structure sets of the series: by the series or images that they reference, or
    by their frame of reference. A mask channel is the segment (or region) of its own name, or the one that `masks`
    names by label or numbers, {lesion: [1, 2]}; one mask channel is all segments where none has its name. Without one
    the mask is unknown (`image.unmarked`).

    The label is that of `table`, a CSV (relative to `folder`, or `${NAMES}`) with the columns label, one of series,
    study (their UIDs), patient (PatientID) or folder (the nearest that is above the files, relative to `folder`), and
    perhaps subject, site, sex and age; without one it is the only one of `image.labels`. `labels` renames labels, null
    leaves images out. `partition` is a fedsynth.data.partition.Partition. Sex and age (at the study) are the header's
    where no table says them; ingest keeps a word and a band of years.

    Nothing that names a patient gets into a record: a subject is a hash of the PatientID (of the study where there is
    none, of the table's subject where it has one), salted with `seed`, and `file` one of the series' UID; no message
    repeats a path or a value. `where(name)` tells at the site which files a name stands for. Series that say that text
    is burned into them are problems; what says nothing is for people to look at.
    """

    def __init__(
        self,
        image: Image,
        seed: int,
        folder: str,
        table: str = "",
        slices: Literal["all", "middle"] | int | dict[str, Any] = "all",
        channels: dict[str, str] | None = None,
        masks: dict[str, Wanted] | None = None,
        labels: dict[str, str | None] | None = None,
        partition: dict[str, Any] | None = None,
    ):
        if not all(map(find_spec, ("pydicom", "highdicom"))):
            raise ParamsError("to read DICOM files install pydicom and highdicom: pip install 'fedsynth[dicom]'")
        self.image, self.seed, self.folder, self.table, self.slices = image, seed, folder, table, slices
        self.channels, self.masks, self.labels = channels, masks, labels
        self.partition, self._partition = partition, parse(partition)
        check_names("masks", masks, image.masks)
        check_names("channels", channels, image.images)
        if isinstance(slices, dict):
            self._slices = slices_of(slices, image)
        elif slices not in ("all", "middle") and not (type(slices) is int and slices >= 0):
            raise ParamsError(
                f"source.args.slices: all, middle, a number from 0, or {{axis, every, least}}, not {slices!r}"
            )

    def index(self) -> pd.DataFrame:
        rows = [row for together, problem in self._images() for row in self._parts(together, problem)]
        for name in [files.neutral("file", name, self.seed) for name in self._scan.bad]:
            said = f"{name} is called a DICOM file and is none, or its header breaks off; mend it, or take it away"
            rows.append({"name": name, "subject": name, "problem": said})
        if not rows and self._scan.said:
            raise SetError(f"{self._folder} holds no series of images; left out were {self._scan.said}")
        known = pd.DataFrame(rows).reindex(columns=COLUMNS)
        return known.fillna(dict.fromkeys(("label", "site", *PERSON), ""))

    def units(self, site: str) -> Sequence[dict[str, Any]]:
        return [row | {"first": number == 0} for number, row in enumerate(super().units(site))]

    def of_unit(self, site: str, unit: dict[str, Any]) -> Iterator[Record]:
        for number, record in enumerate(super().of_unit(site, unit)):
            if unit["first"] and number == 0 and self._scan.said:
                record.warnings = [*record.warnings, f"of the whole folder were left out: {self._scan.said}"]
            yield record

    def files(self) -> Iterable[str]:
        found = {name for s in self._scan.series for name in s.files} | {d.file for d in self._scan.drawings}
        return [*found, *self._scan.bad, *[str(self._table)] * bool(self.table)]

    def depends(self, row: dict[str, Any]) -> tuple[Iterable[str], Any]:
        drawn = [drawing.file for one in row["series"] for drawing in self._drawings.get(one.uid, [])]
        said = {column: cell for column, cell in row.items() if column not in ("series", "first")}
        return [*(file for one in row["series"] for file in one.files), *drawn], (
            said,
            row["first"] and self._scan.said,
        )

    def where(self, name: str) -> list[Path]:
        """The files behind a record's neutral name, for those at the site who may know. Raises SetError for an unknown
        one.
        """
        stem = name.partition("/")[0].partition(" ")[0]
        known = {self._name(s): s.files for s in self._scan.series}
        known |= {files.neutral("file", n, self.seed): [n] for n in self._scan.bad}
        known |= {self._drawn(d): [d.file] for d in self._scan.drawings}
        if stem not in known:
            raise SetError(f"no file is behind {name!r}; with another seed it has another name")
        return [self._folder / file for file in known[stem]]

    def read(self, row: dict[str, Any], record: Record) -> None:
        names, together = self.image.images, row["series"]
        record.warnings += row["warnings"]
        groups = [[name] for name in names] if len(together) > 1 else [names]
        for channels, one in zip(groups, together, strict=True):
            if self._dims == 3:
                skewed = self.image.grid is not None and self.image.grid.spacing_mm is not None
                planes = images.volume(self._folder, one, self._name(one), skewed)
            else:
                planes = images.slice_of(self._folder, one, int(row["slice"]), row["name"])
            put_images(record, self.image, channels, planes, row["name"])
        if self._dims == 2 and any(len(one.frames) > 1 for one in together):
            record.volume = self._volume(together, groups)
        for name in self.image.masks:
            self._read_mask(row, name, record)

    def _volume(self, together: list[Series], groups: list[list[str]]) -> Volume:
        """The series that slices are of, whose limits of intensity they share; one object for all of them."""
        key = tuple(one.uid for one in together)
        if key not in self._volumes:
            self._volumes[key] = Volume(lambda: self._all(together, groups))
        return self._volumes[key]

    def _all(self, together: list[Series], groups: list[list[str]]) -> dict[str, Any]:
        parts = [
            images.all_values(self._folder, one, len(channels), self._name(one))
            for channels, one in zip(groups, together, strict=True)
        ]
        return {
            name: plane
            for channels, part in zip(groups, parts, strict=True)
            for name, plane in zip(channels, part, strict=True)
        }

    def _read_mask(self, row: dict[str, Any], name: str, record: Record) -> None:
        """The mask channel of all drawings of the row's series; none where nothing says what it is."""
        said, there = (self.masks or {}).get(name, name), False
        lone = not self.masks and len(self.image.masks) == 1
        for one in row["series"]:
            of = masks.Target(one, None if self._dims == 3 else int(row["slice"]))
            found = None
            for drawing in self._drawings.get(one.uid, []):
                label, there = self._drawn(drawing), True
                drawn = masks.drawn(self._folder / drawing.file, drawing, said, lone, of, label)
                found = masks.joined(found, drawn, label)
            if found is not None:
                put_masks(record, {name: None}, found.planes, found.name)
                record.warnings += found.warnings
                return
        if there:
            record.warnings.append(f"what is drawn on {row['name']} has no segment for {name!r}; see source.args.masks")

    def _images(self) -> list[tuple[list[Series], str]]:
        """The series of each image, one for each pattern of `channels` where there are several; and what is wrong with
        it.
        """
        found, names = self._scan.series, self.image.images
        if len(names) == 1 or not self.channels:
            pattern = (self.channels or {}).get(names[0], "*")
            return [([s], "") for s in found if fnmatch(s.description.lower(), pattern.lower())]
        studies: dict[str, list[Series]] = {}
        for one in found:
            studies.setdefault(one.study, []).append(one)
        patterns = [self.channels.get(name, name).lower() for name in names]
        fitting = [
            [[s for s in study if fnmatch(s.description.lower(), p)] for p in patterns] for study in studies.values()
        ]
        return [([s for of in each for s in of], self._unclear(each)) for each in fitting if any(each)]

    def _unclear(self, each: list[list[Series]]) -> str:
        """What is wrong where the channels' patterns do not find a series each."""
        counts = [len(of) for of in each]
        if counts != [1] * len(each):
            return f"its study has {counts} series for the channels {self.image.images}; see source.args.channels"
        same = len({of[0].uid for of in each}) < len(each)
        return (
            f"one series of its study is several of the channels {self.image.images}; see source.args.channels"
            if same
            else ""
        )

    def _parts(self, together: list[Series], problem: str) -> list[dict[str, Any]]:
        """The rows of an image's series: one, or one for each slice."""
        first, problem = together[0], problem or next((s.problem for s in together if s.problem), "")
        if self._dims == 2 and len({len(s.frames) for s in together}) > 1:
            problem = problem or f"its series have {[len(s.frames) for s in together]} slices; they must be on one grid"
        if isinstance(self.slices, int) and len(self.image.size) == 2 and self.slices >= len(first.frames):
            problem = problem or f"has no slice {self.slices}, it has {len(first.frames)}; see source.args.slices"
        about, unknown = self._about(first)
        name, problem = self._name(first), problem or unknown
        warned = [f"{self._name(s)} {said}" for s in together for said in s.warnings] + self._one_patient(first, about)
        rows = [
            about
            | {"name": name + (f"/{n:04d}" if len(first.frames) > 1 and n is not None else ""), "slice": n or 0}
            | {"series": together, "warnings": warned}
            for n in self._numbers(first)
        ]
        return [row | {"problem": f"{row['name']} {problem}" if problem else ""} for row in rows]

    def _numbers(self, one: Series) -> list[int | None]:
        """Places of the slices that are images; None is the whole series."""
        if self._dims == 3:
            return [None]
        n = len(one.frames)
        if self.slices == "all":
            return list(range(n))
        return [n // 2 if self.slices == "middle" else int(self.slices)]  # type: ignore[arg-type]

    def _about(self, one: Series) -> tuple[dict[str, str], str]:
        """Subject, label and site of a series by the table, sex and age by it or the header; and what is wrong."""
        subject = one.patient or one.study
        if self._label_table is None:
            known, problem = {"label": only_label(self.image, "give source.args.table")}, ""
        else:
            folders = [str(p) for p in PurePosixPath(one.files[0]).parents]
            above = {"series": [one.uid], "study": [one.study], "patient": [one.patient], "folder": folders}
            key = str(self._label_table.index.name)
            row = next((self._label_table.loc[k] for k in above[key] if k in self._label_table.index), None)
            known = {} if row is None else row.to_dict()
            problem = f"has no row in source.args.table; add one for its {key}, or take it away" * (row is None)
        about = {"label": known.get("label", ""), "site": known.get("site", "")}
        about |= {"sex": known.get("sex") or one.sex, "age": known.get("age") or one.age}
        return about | {"subject": files.neutral("patient", known.get("subject") or subject, self.seed)}, problem

    def _one_patient(self, one: Series, about: dict[str, str]) -> list[str]:
        """What to say of a PatientID that hardly is one patient's, where the table names no subjects."""
        said = self._identifiers.get(one.patient)
        if not said or about["subject"] != files.neutral("patient", one.patient, self.seed):
            return []
        return [
            f"{said}: they count as one patient, all of whose images are in one split; if they are of several, give"
            " source.args.table a column subject"
        ]

    def _name(self, one: Series) -> str:
        return files.neutral("series", one.uid, self.seed)

    def _drawn(self, drawing: Drawing) -> str:
        return files.neutral("rtstruct" if drawing.contours else "seg", drawing.file, self.seed)

    @cached_property
    def _scan(self) -> Scan:
        found = scan(self._folder)
        if self.image.masks and (lost := drawings.of_series(found.drawings, found.series)[1]):
            found.left["segmentations or structure sets of series that are not here"] += len(lost)
        return found

    @cached_property
    def _drawings(self) -> dict[str, list[Drawing]]:
        return drawings.of_series(self._scan.drawings, self._scan.series)[0]

    @cached_property
    def _identifiers(self) -> dict[str, str]:
        return series.shared_identifiers(self._scan.series)

    @cached_property
    def _volumes(self) -> dict[tuple[str, ...], Volume]:
        return {}

    @cached_property
    def _label_table(self) -> pd.DataFrame | None:
        return cases_of(self._table, KEYS) if self.table else None

    @cached_property
    def _table(self) -> Path:
        return self._folder / path_of(self.table, "table", "a CSV with labels")
