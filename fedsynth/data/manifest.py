"""The manifest: one table row per image of a set, real or synthetic, with hashes and statistics."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.data.people import PERSON
from fedsynth.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

FILE, ARRAY = "manifest.csv", "images.npy"
HISTOGRAMS, BINS = "histograms.npy", 32  # of the values as read, for a person at the site
SPLITS = ("train", "val", "test")

COLUMNS = {
    "image_id": str,  # unique in the set; a number within the site, never a patient's name
    "site": str,
    "subject": str,  # stays at the site
    "label": str,
    "sex": str,  # of data/people.py; stays at the site, as age does; empty where unknown
    "age": str,  # a band of years
    "modality": str,  # image channels joined by "+"
    "split": str,  # train, val or test: the source's own, or by a hash of the subject
    "index": int,  # row of images.npy
    "sha256": str,  # of the image channels as stored, so that a copy is seen whatever its mask or label
    "mask_sha256": str,  # of the mask channels as stored; empty without a mask channel
    "origin": str,  # real or synthetic
    "model": str,  # of a synthetic image: name and version of what made it
    "seed": int,  # of a synthetic image; -1 for a real one
    "shape": str,  # as stored, "32x32"
    "spacing_mm": str,  # as stored, "1x1"; empty where unknown
    "source_shape": str,  # as read
    "mask_shape": str,  # as read; empty where there was none
    "min": float,  # statistics of the finite values of the image channels, in [-1, 1]
    "max": float,
    "mean": float,
    "std": float,
    "outside": float,  # share of values that lie outside of the body (NaN as read)
    "values": str,  # per image channel the least and the largest value as read: "t1 -12..1644"
    "scaled": str,  # per image channel the values as read that became -1 and 1: "t1 0..812"
    "lacks": str,  # channels that the image does not have, masks that are unknown; joined by "+"
    "notes": str,  # what was changed on reading
    "warning": str,  # what a person should look at
    "mask_area": int,  # pixels (voxels) of the mask channels that are set
    "file": str,  # where it came from; stays at the site
    "problem": str,  # why it could not be used; empty for a good row
}


class SetError(UserError):
    """A set of images is not what its manifest says; the message names the folder, row or file."""


def sha256(array: np.ndarray) -> str:
    """Of dtype, shape and bytes, so that a reshaped array is another one."""
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()


def digest(manifest: pd.DataFrame) -> str:
    """Of the whole table; the rows' own hashes make it one of the pixels too."""
    rows = manifest.sort_values("image_id")[list(COLUMNS)].to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return hashlib.sha256(rows.encode()).hexdigest()


def row(channels: int, array: np.ndarray, **facts: Any) -> dict[str, Any]:
    """A row for one image as stored, (C, *S) with `channels` image channels first: hashes, geometry, statistics, and
    `facts`.
    """
    planes, masks = array[:channels], array[channels:]
    return {
        "sha256": sha256(planes),
        "mask_sha256": sha256(masks) if len(masks) else "",
        "sex": "",
        "age": "",
        "model": "",
        "seed": -1,
        "shape": by(array.shape[1:]),
        "spacing_mm": "",
        "source_shape": by(array.shape[1:]),
        "mask_shape": by(array.shape[1:]) if len(masks) else "",
        "min": planes.min(),
        "max": planes.max(),
        "mean": planes.mean(),
        "std": planes.std(),
        "outside": 0.0,
        "values": "",
        "scaled": "",
        "lacks": "",
        "notes": "",
        "warning": "",
        "mask_area": int((masks > 0).sum()),
        "file": "",
        "problem": "",
    } | facts


def by(numbers: tuple[float, ...] | None) -> str:
    """ "32x32", or nothing where unknown."""
    return "x".join(f"{n:.6g}" for n in numbers) if numbers is not None else ""


def patients(rows: pd.DataFrame) -> np.ndarray:
    """(N,) whose image each is; one without a subject is its own."""
    return np.where(rows["subject"] == "", rows["image_id"], rows["subject"]).astype(str)


def frame(rows: list[dict]) -> pd.DataFrame:
    """Rows (dicts with every key of COLUMNS) as a table with the right types, also when there are none."""
    import pandas as pd

    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def write(folder: Path, manifest: pd.DataFrame, images: np.ndarray) -> None:
    """`manifest.csv` and `images.npy`, (N, C, *S) float32: two files, however many images."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / ARRAY, np.ascontiguousarray(images, dtype=np.float32))
    write_rows(folder, manifest)


def write_rows(folder: Path, manifest: pd.DataFrame) -> None:
    """`manifest.csv` alone, of images that are there already."""
    manifest.to_csv(folder / FILE, index=False, float_format="%.6g", lineterminator="\n")


def read(folder: Path) -> pd.DataFrame:
    """The manifest of a set. Raises SetError where the file or a column is missing."""
    import pandas as pd

    path = Path(folder) / FILE
    if not path.is_file():
        raise SetError(f"{path} is not there; run `fedsynth ingest` for this site first")
    text = {c: str for c, kind in COLUMNS.items() if kind is str}
    table = pd.read_csv(path, dtype=text, keep_default_na=False, na_values={c: [""] for c in COLUMNS if c not in text})
    table = table.assign(**{c: "" for c in PERSON if c not in table.columns})  # a set of before has none
    if missing := [c for c in COLUMNS if c not in table.columns]:
        raise SetError(f"{path} lacks the columns {missing}; make it again with `fedsynth ingest`")
    others = [c for c in table.columns if c not in COLUMNS]
    return table[[*COLUMNS, *others]].astype(COLUMNS)
