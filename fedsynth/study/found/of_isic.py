"""Pictures with CSVs of diagnoses, as of the ISIC archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from fedsynth.data.manifest import SetError
from fedsynth.sources._tables import text_table
from fedsynth.sources.isic import BESIDE, DIAGNOSES, KEYS, MASK, PICTURES, SUBJECTS
from fedsynth.study.found import kinds
from fedsynth.study.found.layout import Layout, files_of, shown, stem
from fedsynth.study.found.of_table import tables_of


def recognise(folder: Path) -> Layout | None:
    """None where no CSV names pictures without their ending and tells a diagnosis, by a column or by zeros and ones."""
    tables = [path for path in tables_of(folder) if path.suffix.lower() == ".csv"]
    files = [file for file in files_of(folder) if file.lower().endswith(PICTURES)] if tables else []
    pictures = {stem(file): file for file in files if not stem(file).endswith(BESIDE)}
    used = [path for path in tables if _is_of(path, pictures)]
    if not used:
        return None
    masks = [file for file in files if stem(file).endswith(MASK)]
    channels, said = kinds.colours(folder, list(pictures.values()), "gray")
    channels |= {"lesion": "mask"} if masks else {}
    args: dict[str, Any] = {"folder": str(folder)}
    if used != tables:
        args["tables"] = [path.name for path in used]
    return Layout(
        f"ISIC: pictures with {shown([path.name for path in used])}",
        folder,
        "fedsynth.sources.isic.ISIC",
        args,
        channels,
        2,
        sited=any("site" in text_table(path, [], "a CSV") for path in used),
        label_files=[folder / mask for mask in kinds.some(masks)],
        notes=[*said, _subjects(used)],
    )


def _is_of(path: Path, pictures: dict[str, str]) -> bool:
    try:
        table = text_table(path, [], "a CSV of diagnoses")
    except SetError:
        return False
    key = next((key for key in KEYS if key in table), None)
    if key is None or not pictures:
        return False
    named = table[key].isin(list(pictures)).mean()
    return bool(named > 0.5) and (key == "isic_id" or any(c in table for c in DIAGNOSES) or _marks(table, key))


def _marks(table: pd.DataFrame, key: str) -> bool:
    """Whether all but the key are zeros and ones, one 1 in each row."""
    numbers = table.drop(columns=key).apply(pd.to_numeric, errors="coerce")
    return bool(len(numbers.columns) > 1 and numbers.isin([0, 1]).all(axis=None) and (numbers.sum(axis=1) <= 1).all())


def _subjects(tables: list[Path]) -> str:
    there = {column for path in tables for column in text_table(path, [], "a CSV")}
    known = [column for column in SUBJECTS if column in there]
    if known:
        return f"subjects by {' and '.join(known)}"
    return "the CSV names no patients: each picture counts as a subject of its own; a column patient_id says more"
