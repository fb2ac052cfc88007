"""Source: pictures with a CSV of diagnoses, as in the ISIC archive."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from fedsynth.data import images
from fedsynth.data.manifest import SetError
from fedsynth.data.partition import parse
from fedsynth.params import Image, ParamsError
from fedsynth.sources import Record
from fedsynth.sources._indexed import IndexedSource, one_of, only_label, put_images, put_mask, text_table

KEYS = ("isic_id", "image", "image_id", "image_name")
DIAGNOSES = ("diagnosis", "dx")
SUBJECTS = ("patient_id", "lesion_id")
PICTURES, MASK = (".jpg", ".jpeg", ".png"), "_segmentation"
BESIDE = (MASK, "_superpixels")


class ISIC(IndexedSource):
    """JPEG or PNG anywhere under `folder`, and CSVs that tell of each by its name, as of the ISIC challenges (Codella
    et al. 2019, arXiv:1902.03368), HAM10000 (Tschandl et al. 2018, doi:10.1038/sdata.2018.161) and the archive
    (isic-archive.com).

    `tables` are the CSVs, relative to `folder` (default: all that lie in it). A picture's name without ending is in
    their column isic_id, image, image_id or image_name; they are joined by it. The label is the column `label`
    (default: diagnosis or dx), or else the name of the one column that is 1 in a table of zeros and ones, as of a
    challenge's ground truth. `labels` renames labels, {MEL: melanoma}; null leaves images out. Without CSVs all are of
    the only one of `image.labels`.

    A subject is the patient_id, where there is none the lesion_id, where there is none the picture: where only lesions
    are known, two of one patient may part between training and test. A column site is the site, else `partition` says
    which, a fedsynth.data.partition.Partition. Image channels are red, green and blue in their order, or, of one, the
    brightness. The one mask channel is `<name>_segmentation.png`; a picture without it is a problem, or nothing is
    marked in it where `missing_mask` is empty.
    """

    def __init__(self, image: Image, seed: int, folder: str, tables: list[str] | None = None, label: str = "",
                 missing_mask: Literal["problem", "empty"] = "problem", labels: dict[str, str | None] | None = None,
                 partition: dict[str, Any] | None = None):  # fmt: skip
        if len(image.masks) > 1:
            raise ParamsError(
                f"ISIC's pictures have one mask each, but image.channels names {len(image.masks)}: {image.masks}"
            )
        self.image, self.seed, self.folder, self.tables, self.label = image, seed, folder, tables, label
        self.missing_mask, self.labels, self.partition, self._partition = (
            missing_mask,
            labels,
            partition,
            parse(partition),
        )
        one_of("missing_mask", missing_mask, "problem", "empty")

    def index(self) -> pd.DataFrame:
        known = self._findings
        names = sorted(set(self._pictures) | set(known.index))
        rows = pd.DataFrame(
            {
                "picture": names,
                "name": [self._pictures.get(n, n) for n in names],
                "label": "",
                "site": "",
                "problem": "",
            }
        )
        if not self._tables:
            return rows.assign(
                subject=names, label=only_label(self.image, "put a CSV with isic_id and diagnosis beside the pictures")
            )
        for column in ("label", "site", "subject"):
            rows[column] = rows["picture"].map(known[column]).fillna("")
        rows["subject"] = rows["subject"].where(rows["subject"] != "", rows["picture"])
        lost = ~rows["picture"].isin(known.index) | (rows["label"] == "")
        rows.loc[lost, "problem"] = (
            rows["name"] + f" has no label in {', '.join(self._tables)}; add its row, or take the picture away"
        )
        return rows

    def files(self) -> Iterable[str]:
        return [*self._tables, *self._pictures.values(), *(self._masks.values() if self.image.masks else ())]

    def read(self, row: dict[str, Any], record: Record) -> None:
        if row["picture"] not in self._pictures:
            raise SetError(
                f"{row['picture']} is in {', '.join(self._tables)}, but no picture of that name is under"
                f" {self._folder.name}"
            )
        planes, _ = images.read(self._folder / row["name"], len(self.image.size))
        put_images(record, self.image.images, planes, row["name"])
        for name in self.image.masks:
            file = self._masks.get(row["picture"], "")
            if not file and self.missing_mask == "problem":
                raise SetError(
                    f"{row['picture']}{MASK}.png is not there; add it, or say missing_mask: empty if nothing is marked"
                    " in such pictures"
                )
            mask = images.read(self._folder / file, len(self.image.size), mask=True)[0][0] if file else None
            put_mask(record, name, mask, file)

    @cached_property
    def _findings(self) -> pd.DataFrame:
        """label, subject and site by the pictures' names."""
        found = pd.DataFrame()
        for name in self._tables:
            path = self._folder / name
            table = text_table(path, [], "source.args.tables must name CSVs in source.args.folder")
            if (key := next((k for k in KEYS if k in table.columns), None)) is None:
                raise SetError(f"{path} has none of the columns {', '.join(KEYS)}; it has {list(table.columns)}")
            if (twice := table[key].duplicated()).any():
                raise SetError(
                    f"{path}: line {int(twice.idxmax()) + 2} is the second one of"
                    f" {table.loc[int(twice.idxmax()), key]}; keep one"
                )
            found = found.combine_first(table.set_index(key).rename_axis("key"))
        found = found.fillna("")
        subject = pd.Series("", index=found.index)
        for column in [c for c in SUBJECTS if c in found]:
            subject = subject.where(subject != "", found[column])
        site = found.get("site", "")
        return pd.DataFrame({"label": self._label(found), "subject": subject, "site": site}) if self._tables else found

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
    def _pictures(self) -> dict[str, str]:
        return {_stem(name): name for name in self._all if not _stem(name).endswith(BESIDE)}

    @cached_property
    def _masks(self) -> dict[str, str]:
        return {_stem(name).removesuffix(MASK): name for name in self._all if _stem(name).endswith(MASK)}

    @cached_property
    def _all(self) -> list[str]:
        found = (p for p in self._folder.rglob("*") if p.suffix.lower() in PICTURES and not p.name.startswith("."))
        return sorted(p.relative_to(self._folder).as_posix() for p in found)


def _stem(name: str) -> str:
    return Path(name).stem
