"""What columns of a table are, by their usual names and by what is in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from fedsynth.params import names
from fedsynth.sources._tables import SPLITS
from fedsynth.study.found.kinds import some
from fedsynth.study.found.layout import stem

USUAL = {
    "image": (
        "image", "images", "img", "imagepath", "imagefile", "imagefilename", "imagename", "imageid", "imageindex",
        "file", "filename", "filepath", "path", "picture", "scan", "volume", "t1", "id", "name",
    ),
    "mask": (
        "mask", "maskpath", "maskfile", "maskname", "segmentation", "segmentationpath", "seg", "segpath", "labelmap",
        "labelpath", "annotationpath", "annotation", "groundtruth",
    ),
    "label": (
        "label", "labels", "class", "classname", "diagnosis", "dx", "category", "target", "finding", "findinglabels",
        "pathology", "grade", "outcome", "group", "disease", "y",
    ),
    "site": ("site", "hospital", "center", "centre", "clinic", "institution", "institute", "scanner", "source"),
    "subject": (
        "subject", "subjectid", "patient", "patientid", "pid", "case", "caseid", "participantid", "person", "personid",
        "lesionid", "mrn", "individual",
    ),
    "modality": ("modality", "sequence", "contrast", "channel"),
    "split": ("split", "set", "partition", "fold", "subset"),
}  # fmt: skip
MATCHED = 0.5  # share of a column's cells that must be files
FEW = 24  # classes at most


class Tree:
    """Files below a folder by what tables call them: paths, names, names without endings."""

    def __init__(self, files: Iterable[str]):
        self.files = list(files)
        self.known: dict[str, str | None] = {}
        for file in self.files:
            for said in {file, file.rpartition("/")[2], stem(file), file[: -len(_end(file))]}:
                key = _key(said)
                self.known[key] = file if self.known.get(key, file) == file else None  # None: several

    def find(self, cell: str, folder: Path) -> str:
        """The file that a cell names, "" where there is none, or several."""
        bare = names.normal(cell).replace("\\", "/")
        bare = bare.removeprefix(f"{folder.as_posix()}/").removeprefix("./")
        return self.known.get(_key(bare)) or self.known.get(_key(bare.rpartition("/")[2])) or ""


def _key(said: str) -> str:
    return names.normal(said)


def _end(file: str) -> str:
    bare = file.rpartition("/")[2]
    return bare[len(stem(file)) :] or "\0"


def guessed(table: pd.DataFrame, tree: Tree, folder: Path) -> dict[str, str]:
    """Column by what it is: image, mask, label, site, subject, modality, split. Empty where no column names files."""
    found: dict[str, str] = {}
    files = [column for column in table if _names_files(table[column], tree, folder)]
    if not files:
        return {}
    found["image"] = next(iter(_usual("image", files)), files[0])
    rest = [column for column in files if column != found["image"]]
    if masks := list(_usual("mask", rest)):
        found["mask"] = masks[0]
    others = [column for column in table if column not in files]
    for what in ("label", "site", "subject", "modality", "split"):
        if fitting := [column for column in _usual(what, others) if FITS[what](table[column], len(table))]:
            found[what] = fitting[0]
    return found


def _usual(what: str, columns: list[str]) -> Iterable[str]:
    """Columns of the usual names, the most usual first."""
    keys = {"".join(c for c in column.casefold() if c.isalnum()): column for column in reversed(columns)}
    return (keys[name] for name in USUAL[what] if name in keys)


def _names_files(column: pd.Series, tree: Tree, folder: Path) -> bool:
    cells = [cell for cell in some(list(column), 200) if cell]
    return bool(cells) and sum(bool(tree.find(cell, folder)) for cell in cells) > MATCHED * len(cells)


def _any(column: pd.Series, rows: int) -> bool:
    return bool((column != "").any())


def _classes(column: pd.Series, rows: int) -> bool:
    return 1 <= column[column != ""].nunique() <= min(FEW * 4, max(2, rows // 2))


def _splits(column: pd.Series, rows: int) -> bool:
    return set(column.str.casefold()) <= set(SPLITS) and _any(column, rows)


def _whole(column: pd.Series, rows: int) -> bool:
    return bool((column != "").all())


FITS = {"label": _classes, "site": _whole, "subject": _whole, "modality": _any, "split": _splits}
