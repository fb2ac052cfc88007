"""One ingested set as `fedsynth look` sees it: rows, pixels, histograms as read, and what a person should look at."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedsynth.data import manifest
from fedsynth.params import Image

EACH = 2  # images of each class that are shown, whatever else there is
KINDS = ("problem", "validation failed", "warning", "validation warns", "mask unknown", "without", "note")  # of remarks
TOLD = {"files can be read", "nothing doubtful on reading", "masks are known"}  # expectations on a row's own columns
Remarks = dict[str, str]  # kind -> text, the gravest first


@dataclass(frozen=True)
class Looked:
    """`rows` of a manifest, with `images` (N, C, *S), `read` (N, channels, BINS) histograms as read or None, and
    `remarks` in their order.
    """

    rows: pd.DataFrame
    images: np.ndarray
    read: np.ndarray | None
    remarks: list[Remarks]
    image: Image

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        return self.rows.to_dict("records")

    @cached_property
    def classes(self) -> list[str]:
        """The labels of params.yaml, then others that are there."""
        return [*self.image.labels, *sorted(set(self.rows["label"]) - set(self.image.labels))]

    @cached_property
    def usable(self) -> dict[str, np.ndarray]:
        """Places of the rows without a problem, of each class that has any."""
        good = (self.rows["problem"] == "").to_numpy()
        places = {label: np.flatnonzero((self.rows["label"] == label).to_numpy() & good) for label in self.classes}
        return {label: found for label, found in places.items() if len(found)}


def sets(folder: Path) -> list[Path]:
    """The folder itself where it is a set, else the sets in it. Raises SetError where there is none."""
    if (folder / manifest.FILE).is_file():
        return [folder]
    found = sorted(path.parent for path in folder.glob(f"*/{manifest.FILE}"))
    if not found:
        raise manifest.SetError(
            f"{folder} is no set and holds none; run `fedsynth ingest` first, or name another folder"
        )
    return found


def load(folder: Path, image: Image, verdict: Path) -> Looked:
    """The set in a folder; pixels stay on disk until they are looked at. `verdict`: file of the last validation, which
    may be of another set, or not there. Raises SetError where manifest and array do not fit each other or params.yaml.
    """
    rows = manifest.read(folder)
    remarks = [
        _remarks(row, found, image) for row, found in zip(rows.to_dict("records"), _found(rows, verdict), strict=True)
    ]
    return Looked(rows, *_arrays(folder, len(rows), image), remarks, image)


def _arrays(folder: Path, n: int, image: Image) -> tuple[np.ndarray, np.ndarray | None]:
    expected = (n, len(image.channels), *image.size)
    try:
        images = np.load(folder / manifest.ARRAY, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise manifest.SetError(f"{folder / manifest.ARRAY} cannot be read: {error}; run ingest again") from error
    if images.shape != expected:
        raise manifest.SetError(
            f"{folder / manifest.ARRAY} has the shape {images.shape}, manifest and params.yaml ask for {expected}; run"
            " ingest again with these params"
        )
    path = folder / manifest.HISTOGRAMS
    read = np.load(path) if path.is_file() else None
    return images, read if read is not None and read.shape[:2] == (n, len(image.images)) else None


def _found(rows: pd.DataFrame, verdict: Path) -> list[Remarks]:
    """For each row what the validation found beyond the row's own columns, where that was of this very set."""
    said = json.loads(verdict.read_text(encoding="utf-8")) if verdict.is_file() else {}
    by_row: dict[str, dict[str, list[str]]] = {}
    if said.get("digest") == manifest.digest(rows):
        for kind, listed in (("validation failed", said["failures"]), ("validation warns", said["warnings"])):
            for of in [of for of in listed if of["expectation"] not in TOLD]:
                for name, value in zip(of["rows"], of["values"], strict=False):
                    text = f"{of['expectation']}: {value}" if value else of["expectation"]
                    by_row.setdefault(name, {}).setdefault(kind, []).append(text)
    found = [by_row.get(name, {}) for name in rows["image_id"]]
    return [{kind: "; ".join(texts) for kind, texts in of_row.items()} for of_row in found]


def _remarks(row: dict[str, Any], found: Remarks, image: Image) -> Remarks:
    lacking = [name for name in row["lacks"].split("+") if name]
    said = found | {
        "problem": row["problem"],
        "warning": row["warning"],
        "mask unknown": ", ".join(name for name in lacking if name in image.masks),
        "without": ", ".join(name for name in lacking if name not in image.masks),
        "note": row["notes"],
    }
    return {kind: said[kind] for kind in KINDS if said.get(kind)}


def chosen(of: Looked, most: int, seed: int) -> list[int]:
    """Places of the rows to show, the first the most worth it: some of each class, then all with a remark, of each kind
    one before a second of any, then the others by chance, class by class in turn.
    """
    table = pd.DataFrame({"label": of.rows["label"].to_numpy(), "usable": (of.rows["problem"] == "").to_numpy()})
    table["kinds"] = ["/".join(said) for said in of.remarks]
    table["chance"] = np.random.default_rng(seed).permutation(len(table))
    table = table.sort_values("chance")
    table["turn"] = table[table["usable"]].groupby("label").cumcount()
    marked = table[table["kinds"] != ""].sort_index()
    marked = marked.assign(turn=marked.groupby("kinds").cumcount()).sort_values("turn", kind="stable")
    plain = table[(table["kinds"] == "") & table["usable"]].sort_values(["turn", "label"])
    first = table[table["turn"] < EACH].sort_values(["turn", "label"])
    order = dict.fromkeys([*first.index, *marked.index, *plain.index])
    return list(order)[:most]
