"""Source: pictures with a CSV of diagnoses, as in the ISIC archive."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from fedsynth.data import reading
from fedsynth.data.manifest import SetError
from fedsynth.data.partition import parse
from fedsynth.data.people import PERSON
from fedsynth.params import Image, ParamsError
from fedsynth.sources import Record
from fedsynth.sources._indexed import IndexedSource, only_label, put_images, put_masks
from fedsynth.sources._tables import check_at_most, chosen, splits_of, text, text_table

KEYS = ("isic_id", "image", "image_id", "image_name")
DIAGNOSES = ("diagnosis", "dx")
SUBJECTS = ("patient_id", "lesion_id")
AGES = ("age", "age_approx")  # in years, HAM10000's and the archive's
PICTURES, MASK = (".jpg", ".jpeg", ".png"), "_segmentation"
BESIDE = (MASK, "_superpixels")


class ISIC(IndexedSource):
    """JPEG or PNG anywhere under `folder`, and CSVs that tell of each by its name, as of the ISIC challenges (Codella
    et al. 2019, arXiv:1902.03368), HAM10000 (Tschandl et al. 2018, doi:10.1038/sdata.2018.161) and the archive
    (isic-archive.com).

    `tables` are the CSVs, relative to `folder` (default: all that lie in it). A picture's name is in their column
    isic_id, image, image_id or image_name; they are joined by it. The label is the column `label` (default: diagnosis
    or dx), or else the name of the one column that is 1 in a table of zeros and ones, as of a challenge's ground truth.
    `labels` renames labels, {MEL: melanoma}; null leaves images out. `exclude` leaves out those whose columns have one
    of the values, {anatom_site_general: [palms/soles]}; `at_most` takes so many of each class at each site, for a
    trial. Without CSVs all are of the only one of `image.labels`.

    A subject is the patient_id, where there is none the lesion_id, where there is none the picture: where only lesions
    are known, two of one patient may part between training and test. Columns split, sex and age (or age_approx) are
    taken where there are any. A column site is the site, else `partition` says which, a
    fedsynth.data.partition.Partition. Image channels are red, green and blue, or, of one, the brightness, {skin:
    {image: luminance, of: [rgb]}}. The one mask channel is `<name>_segmentation.png`; a picture without it is one whose
    mask is unknown (image.unmarked).
    """

    def __init__(self, image: Image, seed: int, folder: str, tables: list[str] | None = None, label: str = "",
                 labels: dict[str, str | None] | None = None, exclude: dict[str, list[str]] | None = None,
                 at_most: int | None = None, partition: dict[str, Any] | None = None):  # fmt: skip
        if len(image.masks) > 1:
            raise ParamsError(
                f"ISIC's pictures have one mask each, but image.channels names {len(image.masks)}: {image.masks}"
            )
        self.image, self.seed, self.folder, self.tables, self.label = image, seed, folder, tables, label
        self.labels, self.exclude, self.at_most = labels, exclude, at_most
        self.partition, self._partition = partition, parse(partition)
        check_at_most(at_most)

    def index(self) -> pd.DataFrame:
        known = self._findings
        names = [name for name in sorted({*self._pictures, *known.index}) if name not in self._excluded]
        files = [self._pictures.get(name, []) for name in names]
        rows = pd.DataFrame({"picture": names})
        rows["name"] = [(found or [name])[0] for found, name in zip(files, names, strict=True)]
        rows["problem"] = [_several(found) for found in files]
        if not self._tables:
            asked = only_label(self.image, "put a CSV with isic_id and diagnosis beside the pictures")
            return rows.assign(subject=names, label=asked, site="", split="")
        for column in ("label", "site", "subject", "split", *PERSON):
            rows[column] = rows["picture"].map(known[column]).fillna("")
        rows["subject"] = rows["subject"].where(rows["subject"] != "", rows["picture"])
        lost = ~rows["picture"].isin(known.index) | (rows["label"] == "")
        rows.loc[lost, "problem"] = (
            rows["name"] + f" has no label in {', '.join(self._tables)}; add its row, or take the picture away"
        )
        return rows

    def files(self) -> Iterable[str]:
        found = [*self._pictures.values(), *(self._masks.values() if self.image.masks else ())]
        return [*self._tables, *(name for names in found for name in names)]

    def depends(self, row: dict[str, Any]) -> tuple[Iterable[str], Any]:
        found = self._masks.get(row["picture"], []) if self.image.masks else []
        return [row["name"], *found], row

    def read(self, row: dict[str, Any], record: Record) -> None:
        if row["picture"] not in self._pictures:
            raise SetError(
                f"{row['picture']} is in {', '.join(self._tables)}, but no picture of that name is under"
                f" {self._folder.name}"
            )
        planes = reading.read(self._folder / row["name"], len(self.image.size))
        put_images(record, self.image, self.image.images, planes, row["name"])
        found = self._masks.get(row["picture"], [])
        if problem := _several(found):
            raise SetError(problem)
        for name in self.image.masks if found else ():
            put_masks(record, {name: None}, reading.read(self._folder / found[0], len(self.image.size), True), found[0])

    @cached_property
    def _findings(self) -> pd.DataFrame:
        """label, subject, site, split, sex and age by the pictures' names."""
        if not self._tables:
            return pd.DataFrame()
        found = chosen(self._joined, None, self.exclude, self._folder)
        subject = pd.Series("", index=found.index)
        for column in [c for c in SUBJECTS if c in found]:
            subject = subject.where(subject != "", found[column])
        parts = {"label": self._label(found), "subject": subject, "site": found.get("site", "")}
        parts |= {"sex": found.get("sex", ""), "age": next((found[c] for c in AGES if c in found), "")}
        return pd.DataFrame(parts | {"split": splits_of(found, self._folder)})

    @cached_property
    def _excluded(self) -> set[str]:
        return set(self._joined.index) - set(self._findings.index) if self._tables else set()

    @cached_property
    def _joined(self) -> pd.DataFrame:
        """All columns of all tables by the pictures' names. Raises SetError where two tables say different things."""
        found = pd.DataFrame()
        for name in self._tables:
            path = self._folder / name
            table = text_table(path, [], "source.args.tables must name CSVs in source.args.folder")
            if (key := next((k for k in KEYS if k in table.columns), None)) is None:
                raise SetError(f"{path} has none of the columns {', '.join(KEYS)}; it has {list(table.columns)}")
            table[key] = [_stem(one) if one.lower().endswith(PICTURES) else one for one in table[key]]
            if (twice := table[key].duplicated()).any():
                line = twice.idxmax()
                raise SetError(f"{path}: line {line} is the second one of {table.loc[line, key]}; keep one")
            table = table.set_index(key).rename_axis("key").replace("", None)
            _agree(found, table, path)
            found = found.combine_first(table)
        return found.fillna("")

    def _label(self, found: pd.DataFrame) -> pd.Series:
        """The label of each row. Raises SetError where no column says it, and where zeros and ones name two at once."""
        if column := self.label or next((c for c in DIAGNOSES if c in found), ""):
            if column not in found:
                raise SetError(
                    f"no column {column!r} in {', '.join(self._tables)}, but {list(found.columns)}; see"
                    " source.args.label"
                )
            return found[column]
        numbers = found.apply(pd.to_numeric, errors="coerce")
        marks = numbers.loc[:, numbers.isin([0, 1]).any() & (numbers.isin([0, 1]) | (found == "")).all()]
        if marks.empty:
            raise SetError(
                f"{', '.join(self._tables)}: no column {' or '.join(DIAGNOSES)}, and none of zeros and ones; see"
                " source.args.label"
            )
        if (many := marks.sum(axis=1) > 1).any():
            raise SetError(
                f"{', '.join(self._tables)}: {many.idxmax()} has several labels at once; name one column in"
                " source.args.label"
            )
        return marks.fillna(0).idxmax(axis=1).where(marks.sum(axis=1) == 1, "")

    @cached_property
    def _tables(self) -> list[str]:
        return self.tables if self.tables is not None else sorted(p.name for p in self._folder.glob("*.csv"))

    @cached_property
    def _pictures(self) -> dict[str, list[str]]:
        return _by_stem(name for name in self._all if not _stem(name).endswith(BESIDE))

    @cached_property
    def _masks(self) -> dict[str, list[str]]:
        found = _by_stem(name for name in self._all if _stem(name).endswith(MASK))
        return {stem.removesuffix(MASK): names for stem, names in found.items()}

    @cached_property
    def _all(self) -> list[str]:
        found = (p for p in self._folder.rglob("*") if p.suffix.lower() in PICTURES and not p.name.startswith("."))
        return sorted(p.relative_to(self._folder).as_posix() for p in found)


def _stem(name: str) -> str:
    return text(Path(name).stem)


def _by_stem(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_stem(name), []).append(name)
    return found


def _several(files: list[str]) -> str:
    """What is wrong with several files of one name: resized copies, perhaps."""
    return f"{' and '.join(files)} have one name; take away all but the one that is meant" if len(files) > 1 else ""


def _agree(found: pd.DataFrame, table: pd.DataFrame, path: Path) -> None:
    for column in found.columns.intersection(table.columns):
        both = found.index.intersection(table.index)
        a, b = found.loc[both, column], table.loc[both, column]
        if (odd := a.notna() & b.notna() & (a != b)).any():
            name = odd.idxmax()
            raise SetError(
                f"{path} says {column} {b[name]!r} of {name}, another table says {a[name]!r}; mend one, or name the"
                " tables that count in source.args.tables"
            )
