"""A table of images: manifest.csv, or a CSV with other columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from fedsynth.data.manifest import SetError
from fedsynth.params.names import IDENTIFIER
from fedsynth.sources._tables import text_table
from fedsynth.sources.table import COLUMNS
from fedsynth.study.found import columns, kinds, subjects
from fedsynth.study.found.layout import MANIFEST, TABLE, UNLABELLED, Layout, channel, counted, files_of, shown

ENDINGS = (".csv", ".tsv")


def tables_of(folder: Path) -> list[Path]:
    """CSVs in a folder, manifest.csv first."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and not path.name.startswith(".")]
    return sorted(found, key=lambda path: (path.name != MANIFEST, path.name))


def recognise(folder: Path, tables: list[Path] | None = None) -> Layout | None:
    """A layout by the first CSV that names image files; None where there is none."""
    tree: columns.Tree | None = None
    for path in tables if tables is not None else tables_of(folder):
        try:
            rows = text_table(path, [], "a table of images")
        except SetError:
            if tables is not None or path.name == MANIFEST:
                raise
            continue
        tree = tree or columns.Tree(files_of(folder))
        if known := columns.guessed(rows, tree, folder):
            return _layout(folder, path, rows, known, tree)
    return None


def _layout(folder: Path, path: Path, rows: pd.DataFrame, known: dict[str, str], tree: columns.Tree) -> Layout:
    if path.name == MANIFEST and _plain(rows, folder):
        return made(folder, rows, {"folder": str(folder)}, f"a table, {path.name}")
    table, notes, lost = _proposed(folder, path, rows, known, tree)
    found = made(folder, table, {"folder": str(folder)}, f"a table, {path.name}, with columns of other names")
    found.table, found.notes = table, [*notes, *found.notes]
    found.problems = lost
    return found


def _plain(rows: pd.DataFrame, folder: Path) -> bool:
    """Whether the source of tables reads it as it is."""
    needed = [column for column in COLUMNS if column not in ("site", "modality")]
    if not set(COLUMNS) - {"site"} <= set(rows) or not all((rows[c] != "").all() for c in needed if c != "label"):
        return False
    return all((folder / name).is_file() for name in kinds.some(list(rows["image"])))


def _proposed(
    folder: Path, path: Path, rows: pd.DataFrame, known: dict[str, str], tree: columns.Tree
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """A manifest of a table with other columns, what was guessed, and the rows whose file is not there."""
    files = [tree.find(cell, folder) for cell in rows[known["image"]]]
    lost = [f"{path.name}: line {line} names {cell}, which is not there: left out" for line, cell, file in
            zip(rows.index, rows[known["image"]], files, strict=True) if not file]  # fmt: skip
    rows = rows.assign(image=files)[[bool(file) for file in files]]
    found = pd.DataFrame({"image": rows["image"]})
    for what in ("label", "site", "modality", "split"):
        if what in known:
            found[what] = rows[known[what]]
    found = found.assign(label=found.get("label", ""), modality=found.get("modality", "image"))
    if "mask" in known:
        found["mask"] = [tree.find(cell, folder) if cell else "" for cell in rows[known["mask"]]]
    notes = [f"{path.name}: taken for {', '.join(f'{what} is {column!r}' for what, column in known.items())}"]
    if "subject" in known:
        return found.assign(subject=rows[known["subject"]]), notes, lost
    who, said = subjects.by_name(list(rows["image"]))
    unknown = (
        f"no column of {path.name} tells patients (looked for {', '.join(columns.USUAL['subject'][:4])}, …): each image"
        " counts as a subject of its own; where a patient has several, give them one `subject` in manifest.csv"
    )
    return found.assign(subject=who), [*notes, said or unknown], lost


def made(folder: Path, rows: pd.DataFrame, args: dict[str, Any], title: str) -> Layout:
    """The layout of a table with the source's columns."""
    images = list(rows["image"])
    dims = kinds.dims_of(folder, images)
    channels, notes = _channels(folder, rows, dims)
    masks = [name for name in rows.get("mask", []) if name]
    if masks:
        channels |= {"mask": "mask"}
    labels: dict[str, str | None] = {}
    if (blank := rows["label"] == "").any():
        labels = {"": UNLABELLED if blank.all() else None}
        if not blank.all():
            notes.append(f"{counted(int(blank.sum()), 'image')} without a label: left out")
    more = [column for column in rows if str(column).startswith("mask") and column != "mask"]
    if more and masks:
        notes.append(f"columns that are not used: {shown(more)}; one of them may be the mask instead")
    return Layout(
        title,
        folder,
        TABLE,
        args | ({"labels": labels} if labels else {}),
        channels,
        dims,
        sited="site" in rows and bool((rows["site"] != "").all()),
        drop="subject" if len([c for c in channels if c in set(rows["modality"])]) > 1 else "image",
        label_files=[folder / mask for mask in kinds.some(list(dict.fromkeys(masks)))],
        notes=notes,
    )


def _channels(folder: Path, rows: pd.DataFrame, dims: int) -> tuple[dict[str, Any], list[str]]:
    """One channel for each modality where each subject has them all; else colours, or one channel."""
    modalities = list(dict.fromkeys(m for m in rows["modality"] if m))
    of = rows.groupby([rows["subject"], rows.get("image_id", rows["subject"])])["modality"]
    if len(modalities) > 1 and all(IDENTIFIER.fullmatch(m) for m in modalities):
        complete = [len(m) == len(modalities) and set(m) == set(modalities) for _, m in of]
        if all(complete):
            return dict.fromkeys(modalities, "image"), [f"a channel for each modality: {shown(modalities)}"]
    name = channel(modalities[0]) if len(modalities) == 1 and (rows["modality"] != "").all() else "image"
    return kinds.colours(folder, list(rows["image"]), "image" if len(name) > 12 else name)
