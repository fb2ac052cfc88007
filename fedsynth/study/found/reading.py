"""Reads the images of a layout by its source, and keeps what a plan needs of each."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fedsynth.data import images, masks, reading
from fedsynth.data.manifest import SetError
from fedsynth.params import Image
from fedsynth.sources import Record, Source
from fedsynth.study.found.found import Found
from fedsynth.study.found.layout import FoundError, Layout
from fedsynth.study.found.seen import Small

ONE_SITE = {"kind": "iid", "sites": ["all"]}
THIN = 4000  # voxels up to which a mask is kept, to see whether it outlives another size
FEW_VOLUMES = 24  # below it slices are the images
FLAT = 12  # slices below which a volume is too thin for three dimensions


def read(layout: Layout, most: int, seconds: float) -> Found:
    """What the images are. Volumes of which there are few are read again as slices.

    Raises UserError where the source cannot list them.
    """
    found = _read(layout, most, seconds)
    good = found.good
    if layout.dims == 3 and layout.slices is None and len(good):
        thin = float(np.median([min(shape) for shape in good["shape"]])) < FLAT
        if thin or good["subject"].nunique() < FEW_VOLUMES:
            every = max(1, round(float(np.median([shape[0] for shape in good["shape"]])) / 16))
            slices = {"axis": 0, "every": every, "least": 0.1}
            return _read(replace(layout, slices=slices), most, seconds)
    return found


def _read(layout: Layout, most: int, seconds: float) -> Found:
    with layout.beside(layout.table) as table:
        image = layout.image(**({"unmarked": "unknown"} if layout.masks else {}))
        source = layout.source(image, 1, table, **({} if layout.sited else {"partition": ONE_SITE}))
        listed = source.listed()
        rows, small, whole = [], [], True
        began = time.monotonic()
        for number, (site, record) in enumerate(_in_turn(source)):
            if number >= most or time.monotonic() - began > seconds:
                whole = False
                break
            row, mask = _facts(record, image)
            rows.append(row | {"site": site if layout.sited else "all"})
            small += [mask] if mask else []
    if not rows:
        raise FoundError(f"{layout.folder} is {layout.title}, and holds no image")
    table_of = _twins(pd.DataFrame(rows))
    return Found(layout, table_of, listed, _values(layout), small, whole)


def _in_turn(source: Source) -> Iterator[tuple[str, Record]]:
    """The records of all sites, one of each in turn, so that what is read first is of all."""
    turns = {site: source.records(site) for site in source.sites()}
    while turns:
        for site, records in list(turns.items()):
            if record := next(records, None):
                yield site, record
            else:
                del turns[site]


def _facts(record: Record, image: Image) -> tuple[dict[str, Any], Small | None]:
    """A row of `Found.images`, and the mask where it is small."""
    row: dict[str, Any] = {"file": record.file, "subject": record.subject, "label": record.label}
    row |= {"split": record.split, "problem": record.problem, "shape": (), "spacing": record.spacing_mm, "mask": ""}
    row |= {"regrid": False, "bright": np.nan, "digest": "", "bits8": bool(record.ranges)}
    if record.problem:
        return row, None
    try:
        row["regrid"] = _together(record, image)
        first = record.channels[image.images[0]]
        images.outside(record, image)
    except SetError as error:
        return row | {"problem": str(error)}, None
    if all(np.nanmin(record.channels[c]) == np.nanmax(record.channels[c]) for c in image.images):
        return row | {"problem": f"{record.file} is blank: it has one value throughout"}, None
    row |= {"shape": first.shape, "spacing": record.spacing_mm}
    row["digest"] = hashlib.sha256(b"".join(record.channels[c].tobytes() for c in image.images)).hexdigest()
    row["bright"] = float(np.percentile(first[np.isfinite(first)], 99.5))
    marked = [record.channels[name] > 0 for name in image.masks if name in record.channels]
    if not marked:
        return row, None
    mask = np.any(marked, 0)
    row["mask"] = "marked" if mask.any() else "empty"
    small = Small(record.file, mask.shape, record.spacing_mm, np.flatnonzero(mask)) if 0 < mask.sum() < THIN else None
    return row, small


def _together(record: Record, image: Image) -> bool:
    """Whether the files of an image lie on several grids that can be resampled. Raises SetError where they cannot."""
    try:
        images.together(record, image)
    except SetError:
        if "image.grid" not in _said(record, image):
            raise
        images.together(record, Image.model_validate(image.model_dump() | {"grid": {"onto": image.images[0]}}))
        return True
    return False


def _said(record: Record, image: Image) -> str:
    try:
        images.together(record, image)
    except SetError as error:
        return str(error)
    return ""


def _twins(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in which an image with the pixels of one before it is a problem."""
    again = (rows["digest"] != "") & rows["digest"].duplicated()
    first = rows[rows["digest"] != ""].drop_duplicates("digest").set_index("digest")["file"]
    said = rows["file"] + " has the pixels of " + rows["digest"].map(first).fillna("")
    return rows.assign(problem=rows["problem"].where(~again, said))


def _values(layout: Layout) -> Counter[int]:
    """In how many of some label files each value is."""
    found: Counter[int] = Counter()
    for path in layout.label_files:
        try:
            planes = reading.read(path, layout.dims, mask=True)
            found.update(value for value in masks.counts(masks.read(planes, path.name).labels) if value)
        except SetError:  # the image it is of has it as its problem
            continue
    return found
