"""Source: DICOM series with segmentations, de-identified on reading."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatch
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd

from fedsynth.data import series
from fedsynth.data.manifest import SetError
from fedsynth.data.partition import parse
from fedsynth.data.series import Series
from fedsynth.params import Image, ParamsError
from fedsynth.sources import Record, path_of
from fedsynth.sources._indexed import IndexedSource, cases_of, check_names, one_of, only_label, put_images, put_mask

KEYS = ("series", "study", "patient", "folder")
Wanted = str | int | list[int]


class DICOM(IndexedSource):
    """Every series of images under `folder`, in whatever folders: a SeriesInstanceUID is one (`pip install
    fedsynth[dicom]`).

    With an `image.size` of three axes a series is a volume: its slices by position along their normal, or an enhanced
    file's frames; turned to z up, y to the back, x to the left. With two axes `slices` says what is an image: all, each
    slice; middle; or a number from 0. Values are rescaled by slope and intercept, MONOCHROME1 is inverted.

    One image channel is each series, or those whose SeriesDescription fits the pattern of `channels`, {t1: "*T1*"}.
    Several channels are, with such patterns, the series of one study on one grid; without, the colours of a series.

    Masks are DICOM segmentations that reference the series. A mask channel is the segment of its own label, or the one
    that `masks` names by label or numbers, {lesion: [1, 2]}; one mask channel is all segments where none has its name.
    A series without is a problem, or nothing is marked in it where `missing_mask` is empty.

    The label is that of `table`, a CSV (relative to `folder`, or `${NAMES}`) with the columns label, one of series,
    study (their UIDs), patient (PatientID) or folder (the nearest that is above the files, relative to `folder`), and
    perhaps site; without one it is the only one of `image.labels`. `labels` renames labels, null leaves images out.
    `partition` is a fedsynth.data.partition.Partition.

    Nothing that names a patient gets into a record: a subject is a hash of the PatientID (of the study where there is
    none), salted with `seed`, and `file` one of the series' UID; no message repeats a path or a value. `where(name)`
    tells at the site which files a name stands for. Series that say that text is burned into them are problems; what
    says nothing is for people to look at.
    """

    def __init__(
        self,
        image: Image,
        seed: int,
        folder: str,
        table: str = "",
        slices: Literal["all", "middle"] | int = "all",
        channels: dict[str, str] | None = None,
        masks: dict[str, Wanted] | None = None,
        missing_mask: Literal["problem", "empty"] = "problem",
        labels: dict[str, str | None] | None = None,
        partition: dict[str, Any] | None = None,
    ):
        if not all(map(find_spec, ("pydicom", "highdicom"))):
            raise ParamsError("to read DICOM files install pydicom and highdicom: pip install 'fedsynth[dicom]'")
        self.image, self.seed, self.folder, self.table, self.slices, self.channels = (
            image,
            seed,
            folder,
            table,
            slices,
            channels,
        )
        self.masks, self.missing_mask, self.labels, self.partition, self._partition = (
            masks,
            missing_mask,
            labels,
            partition,
            parse(partition),
        )
        check_names("masks", masks, image.masks)
        check_names("channels", channels, image.images)
        one_of("missing_mask", missing_mask, "problem", "empty")
        if slices not in ("all", "middle") and not (isinstance(slices, int) and slices >= 0):
            raise ParamsError(f"source.args.slices: all, middle or a number from 0, not {slices!r}")

    def index(self) -> pd.DataFrame:
        rows = [row for together, problem in self._images() for row in self._parts(together, problem)]
        bad = [series.neutral("file", name, self.seed) for name in self._scan[2]]
        known = pd.DataFrame(
            rows
            + [
                {"name": n, "subject": n, "problem": f"{n} cannot be read as DICOM; mend it, or take it away"}
                for n in bad
            ]
        )
        return known.reindex(columns=["name", "subject", "label", "site", "problem", "series", "slice"]).fillna(
            {"label": "", "site": ""}
        )

    def files(self) -> Iterable[str]:
        found = {name for s in self._scan[0] for name in s.files} | {
            name for names in self._scan[1].values() for name in names
        }
        return [*found, *self._scan[2], *[str(self._table)] * bool(self.table)]

    def where(self, name: str) -> list[Path]:
        """The files behind a record's neutral name, for those at the site who may know. Raises SetError for an unknown
        one.
        """
        stem = name.partition("/")[0]
        known = {self._name(s): s.files for s in self._scan[0]}
        drawn = {name for names in self._scan[1].values() for name in names}
        others = {
            series.neutral(kind, n, self.seed): [n]
            for kind, names in (("file", self._scan[2]), ("seg", drawn))
            for n in names
        }
        if stem not in known | others:
            raise SetError(f"no file is behind {name!r}; with another seed it has another name")
        return [self._folder / file for file in (known | others)[stem]]

    def read(self, row: dict[str, Any], record: Record) -> None:
        names = self.image.images
        groups = [[name] for name in names] if len(row["series"]) > 1 else [names]
        grid: Any = None
        for channels, one in zip(groups, row["series"], strict=True):
            if len(self.image.size) == 3:
                found = series.volume([self._folder / f for f in one.files], self._name(one))
                planes, record.spacing_mm = series.planes_of(found)
                grid = found if grid is None else grid
                if not found.geometry_equal(grid):
                    raise SetError(
                        f"{self._name(one)} lies on another grid than the first series of its study; resample it before"
                    )
            else:
                at = one.slices[int(row["slice"])]
                planes, record.spacing_mm = series.frame(self._folder / at.file, at.frame, row["name"])
            put_images(record, channels, planes, row["name"])
        for name in self.image.masks:
            put_mask(record, name, self._mask(row, name, grid), row["name"])

    def _mask(self, row: dict[str, Any], name: str, grid: Any) -> np.ndarray | None:
        """Where the mask channel's segments are set, or None where nothing is marked."""
        found, one = None, row["series"][0]
        for of in row["series"]:
            for file in self._scan[1].get(of.uid, []):
                label = series.neutral("seg", file, self.seed)
                drawn, numbers = series.segments(self._folder / file, self._wanted(name), label)
                if not numbers and not self.masks and len(self.image.masks) == 1:
                    drawn, numbers = series.segments(self._folder / file, None, label)
                if not numbers:
                    continue
                if grid is None:
                    at = of.slices[int(row["slice"])]
                    mask = series.drawn_on_frame(drawn, numbers, self._folder / at.file, at.frame, label)
                else:
                    mask = series.drawn_on_volume(drawn, numbers, grid, label)
                found = mask if found is None else found | mask
        if found is None and self.missing_mask == "problem":
            raise SetError(
                f"{self._name(one)}: no segmentation of it has a segment for {name!r}; add it, see source.args.masks, "
                "or say missing_mask: empty"
            )
        return found

    def _wanted(self, name: str) -> str | list[int] | None:
        said = (self.masks or {}).get(name, name)
        return [said] if isinstance(said, int) else said

    def _images(self) -> list[tuple[list[Series], str]]:
        """The series of each image, one for each pattern of `channels` where there are several; and what is wrong with
        it.
        """
        found, names = self._scan[0], self.image.images
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
        if len({len(s.slices) for s in together}) > 1:
            problem = problem or f"its series have {[len(s.slices) for s in together]} slices; they must be on one grid"
        if isinstance(self.slices, int) and len(self.image.size) == 2 and self.slices >= len(first.slices):
            problem = problem or f"has no slice {self.slices}, it has {len(first.slices)}; see source.args.slices"
        label, site, unknown = self._label_and_site(first)
        about = {
            "subject": series.neutral("patient", first.patient or first.study, self.seed),
            "label": label,
            "site": site,
            "series": together,
        }
        name, problem = self._name(first), problem or unknown
        rows = [
            about | {"name": name + (f"/{n:04d}" if len(first.slices) > 1 and n is not None else ""), "slice": n or 0}
            for n in self._numbers(first)
        ]
        return [row | {"problem": f"{row['name']} {problem}" if problem else ""} for row in rows]

    def _numbers(self, one: Series) -> list[int | None]:
        """Places of the slices that are images; None is the whole series."""
        if len(self.image.size) == 3:
            return [None]
        n = len(one.slices)
        return list(range(n)) if self.slices == "all" else [n // 2 if self.slices == "middle" else int(self.slices)]

    def _label_and_site(self, one: Series) -> tuple[str, str, str]:
        """Label, site and problem by the table."""
        if self._label_table is None:
            return only_label(self.image, "give source.args.table"), "", ""
        folder = PurePosixPath(one.files[0])
        above = {
            "series": [one.uid],
            "study": [one.study],
            "patient": [one.patient],
            "folder": [str(p) for p in folder.parents],
        }
        key = str(self._label_table.index.name)
        row = next((self._label_table.loc[k] for k in above[key] if k in self._label_table.index), None)
        if row is None:
            return "", "", f"has no row in source.args.table; add one for its {key}, or take it away"
        return row["label"], row.get("site", ""), ""

    def _name(self, one: Series) -> str:
        return series.neutral("series", one.uid, self.seed)

    @cached_property
    def _scan(self) -> tuple[list[Series], dict[str, list[str]], list[str]]:
        return series.scan(self._folder)

    @cached_property
    def _label_table(self) -> pd.DataFrame | None:
        return cases_of(self._table, KEYS) if self.table else None

    @cached_property
    def _table(self) -> Path:
        return self._folder / path_of(self.table, "table", "a CSV with labels")
