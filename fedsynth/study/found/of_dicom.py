"""Folders of DICOM files. Nothing that names a patient is shown: counts, and descriptions of series."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from fedsynth.data.manifest import SetError
from fedsynth.sources._tables import cases_of, text_table
from fedsynth.sources.dicom import KEYS
from fedsynth.study.found import kinds
from fedsynth.study.found.layout import MANIFEST, FoundError, Layout, channel, counted
from fedsynth.study.found.of_table import tables_of

TRIED = 60  # files that are looked at, to see whether some are DICOM
COMMON = 0.8  # share of the studies that must have a series of a description, once
VOLUME = 8  # slices from which on a series is a volume


def recognise(folder: Path) -> Layout | None:
    """None where no file is DICOM. Raises FoundError where the packages that read it are missing."""
    from fedsynth.data.dicom.files import is_dicom

    if not any(is_dicom(path) for path in islice(_files(folder), TRIED)):
        return None
    if not all(map(find_spec, ("pydicom", "highdicom"))):
        raise FoundError(f"{folder} holds DICOM files; to read them: pip install 'fedsynth[dicom]'")
    from fedsynth.data.dicom import drawings
    from fedsynth.data.dicom.scan import scan

    found = scan(folder)
    if not found.series:
        raise FoundError(f"{folder} holds DICOM files and no series of images; left out were: {found.said or 'none'}")
    channels, args = _channels(folder, found.series)
    drawn, _ = drawings.of_series(found.drawings, found.series)
    channels |= {"mask": "mask"} if drawn else {}
    table, made, said = _labels(folder)
    volumes = sum(len(one.frames) >= VOLUME for one in found.series) > len(found.series) / 2
    return Layout(
        "DICOM",
        folder,
        "fedsynth.sources.dicom.DICOM",
        {"folder": str(folder)} | args | ({"table": table} if table else {}),
        channels,
        3 if volumes else 2,
        labels=[] if table or made is not None else ["image"],
        sited=(made is not None and "site" in made) or (bool(table) and "site" in cases_of(folder / table, KEYS)),
        table=made,
        at_most=False,
        slices=None if volumes else "all",
        notes=[
            f"{len(found.series)} series of {counted(len({s.patient or s.study for s in found.series}), 'patient')}, by"
            " SeriesInstanceUID and PatientID",
            *([f"left out: {found.said}"] if found.said else []),
            *said,
        ],
    )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))


def _channels(folder: Path, series: list[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A channel for each description of which nearly all studies have one series; else one for every series."""
    studies: dict[str, Counter[str]] = {}
    for one in series:
        studies.setdefault(one.study, Counter())[one.description.lower()] += 1
    names = [name for name in {n for of in studies.values() for n in of} if name.strip()]
    common = sorted(name for name in names if sum(of[name] == 1 for of in studies.values()) >= COMMON * len(studies))
    if len(studies) > 1 and len(common) > 1 and len({channel(name) for name in common}) == len(common):
        return {channel(name): "image" for name in common}, {"channels": {channel(name): name for name in common}}
    from fedsynth.data.dicom.files import header

    coloured = [int(header(folder / one.files[0]).get("SamplesPerPixel", 1)) == 3 for one in kinds.some(series)]
    return (dict(kinds.RGB) if all(coloured) else {"image": "image"}), {}


def _labels(folder: Path) -> tuple[str, pd.DataFrame | None, list[str]]:
    """A CSV with labels that the source takes as it is; or one that is proposed, of a table with folders as images."""
    for path in tables_of(folder):
        try:
            cases_of(path, KEYS)
        except SetError:
            rows = _of_folders(folder, path)
            if rows is not None:
                return "", rows, [f"label, site and subject of each folder by {path.name}"]
            continue
        return path.name, None, [f"labels by {path.name}"]
    return "", None, [f"no CSV tells labels (looked for label and {', '.join(KEYS)}): all images are of one class"]


def _of_folders(folder: Path, path: Path) -> pd.DataFrame | None:
    """The proposed table of a manifest whose images are folders of series."""
    try:
        rows = text_table(path, ["image"], MANIFEST)
    except SetError:
        return None
    if not all((folder / name).is_dir() for name in rows["image"]):
        return None
    found = pd.DataFrame({"folder": rows["image"], "label": rows.get("label", "")})
    found["label"] = found["label"].replace("", "unlabelled")
    for column in ("subject", "site"):
        if column in rows and (rows[column] != "").all():
            found[column] = rows[column]
    return found
