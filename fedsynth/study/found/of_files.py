"""Folders of image files without a table: by class, by site and class, in images/ and masks/, or flat."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fedsynth.sources._tables import SPLITS
from fedsynth.study.found import kinds, modalities, of_table, pairs, subjects
from fedsynth.study.found.layout import (
    PICTURES,
    TABLE,
    UNLABELLED,
    FoundError,
    Layout,
    counted,
    files_of,
    shown,
)

COLUMNS = ["image", "mask", "label", "site", "subject", "modality", "split"]
SITES = ("site", "hospital", "center", "centre", "clinic", "institut", "klinik", "scanner")
MOST_CLASSES = 24


@dataclass
class Levels:
    """What the folders above an image say: a value for each image, empty where they say nothing."""

    label: list[str]
    site: list[str]
    split: list[str]
    subject: list[str]
    notes: list[str]


def recognise(folder: Path) -> Layout | None:
    """A layout with a proposed manifest; None where there is no image."""
    files = files_of(folder)
    if not files:
        return None
    rows, notes = modalities.table(files)
    if rows is not None:
        layout = of_table.made(folder, rows, {"folder": str(folder)}, "files of several modalities")
        layout.table, layout.notes = rows, [*notes, *layout.notes]
        return layout
    found = pairs.of(files)
    images = list(found.masks)
    known = levels(images)
    who, said = _subjects(images, known)
    kind = "picture" if images[0].lower().endswith(PICTURES) else "file"
    table = pd.DataFrame({"image": images, "mask": list(found.masks.values()), "label": known.label})
    table = table.assign(site=known.site, subject=who, modality="image", split=known.split)[COLUMNS]
    dims = kinds.dims_of(folder, images)
    channels, seen = kinds.colours(folder, images, "gray" if kind == "picture" else "image")
    if any(found.masks.values()):
        channels |= {"mask": "mask"}
    table = table.drop(columns=[c for c in ("split", "mask") if not table[c].any()])
    return Layout(
        _title(known, found, kind),
        folder,
        TABLE,
        {"folder": str(folder)} | _labels(table),
        channels,
        dims,
        sited=bool(table["site"].all()),
        drop="image",
        table=table,
        label_files=[folder / mask for mask in kinds.some([m for m in found.masks.values() if m])],
        notes=[*known.notes, *found.notes, *seen, said or _own(images)],
    )


def _title(known: Levels, found: pairs.Pairs, kind: str) -> str:
    parts = [f"{kind}s"]
    if any(known.site):
        parts.append("in a folder for each site")
    if any(known.label):
        parts.append("in a folder for each class" if not any(known.site) else "and class")
    if any(found.masks.values()):
        parts.append("with masks")
    return " ".join(parts) if len(parts) > 1 else f"a folder of {kind}s"


def _labels(table: pd.DataFrame) -> dict[str, dict[str, str | None]]:
    """`labels` of the source where images have none: all are of one class, or those without are left out."""
    if table["label"].all():
        return {}
    return {"labels": {"": None if table["label"].any() else UNLABELLED}}


def _subjects(images: list[str], known: Levels) -> tuple[list[str], str]:
    """The subject of each image, and in words by what."""
    who, said = subjects.by_name(images)
    if said or not any(known.subject):
        return who, said
    who = [subject.strip("/") or subjects.own(image) for subject, image in zip(known.subject, images, strict=True)]
    return who, f"folders are taken for patients: {shown(list(dict.fromkeys(who)))}"


def _own(images: list[str]) -> str:
    return (
        f"names of files do not tell patients: each of {counted(len(images), 'image')} counts as a subject of its own."
        " Where a patient has several, give them one `subject` in manifest.csv: a patient must not be in training and"
        " test"
    )


def levels(images: list[str]) -> Levels:
    """Classes, sites and splits by folders. Raises FoundError where there are too many kinds of folders to tell."""
    parts = [[p for p in image.split("/")[:-1] if p.casefold() not in pairs.IMAGES] for image in images]
    columns = _columns(parts)
    blank = [""] * len(images)
    found = Levels(blank, blank, blank, blank, [])
    rest = []
    for column in columns:
        kind = _kind(column, len(images))
        if kind == "split":
            found.split = [SPLITS[value.casefold()] for value in column]
            found.notes.append("folders train, val and test say where an image belongs")
        elif kind == "site":
            found.site = column
        elif kind == "subject":
            found.subject = ["/".join(names) for names in zip(found.subject, column, strict=True)]
        else:
            rest.append(column)
    _classes(found, rest)
    return found


def _columns(parts: list[list[str]]) -> list[list[str]]:
    """The folders of each image by their depth, without levels at which all images are in one."""
    deepest = max(map(len, parts))
    found = [[of[depth] if depth < len(of) else "" for of in parts] for depth in range(deepest)]
    return [column for column in found if len(set(column)) > 1]


def _kind(column: list[str], images: int) -> str:
    """What a level of folders is: split, site, subject, class."""
    values = set(column)
    if {value.casefold() for value in values} <= set(SPLITS) - {""}:
        return "split"
    if all(value.casefold().startswith(SITES) for value in values if value):
        return "site"
    people = [value for value in values if subjects.person(value) or value.isdigit()]
    # few images in each of many folders: patients
    if (len(people) >= 0.9 * len(values) and len(values) > 2) or len(values) > max(MOST_CLASSES, images / 4):
        return "subject"
    return "class"


def _classes(found: Levels, rest: list[list[str]]) -> None:
    """One level is of classes; of two, of which the outer one repeats the inner one's names, it is of sites."""
    if len(rest) > 2 or (len(rest) == 2 and any(found.site)):
        said = "; ".join(shown(sorted(set(column))) for column in rest)
        raise FoundError(
            f"there are {len(rest)} levels of folders that might be classes ({said}); write a manifest.csv with the"
            " columns image, label, site, subject and modality"
        )
    if len(rest) == 2:
        found.site = rest[0]
        found.notes.append(f"the outer folders are taken for sites: {shown(sorted(set(rest[0])))}")
    if rest:
        found.label = rest[-1]
        found.notes.append(f"folders are taken for classes: {shown(sorted(set(rest[-1]) - {''}), 12)}")
        if lost := found.label.count(""):
            found.notes.append(f"{counted(lost, 'image')} in no folder of a class: left out")
