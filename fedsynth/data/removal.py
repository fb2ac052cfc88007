"""Takes rows out of a stored set; what is left stays as it was, byte for byte, but for its place in the arrays."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from contextlib import suppress
from math import prod
from pathlib import Path

import numpy as np
import pandas as pd

from fedsynth.data.disk import sync_folder
from fedsynth.data.manifest import ARRAY, FILE, HISTOGRAMS, SetError

ORDER = (ARRAY, HISTOGRAMS, FILE)  # in which they are replaced: the manifest last, since it names what is done
PART = re.compile(rf"({'|'.join(map(re.escape, ORDER))})\.[0-9a-f]{{16}}\.(part|new)")
ROWS = 256  # copied at once: bounds the memory


def take_out(folder: Path, chosen: Callable[[pd.DataFrame], pd.Series]) -> int:
    """Take the rows that `chosen` marks (of the manifest as text) out of a set. Returns their number.

    Three files are replaced, each written beside, synced and renamed. Whatever interrupts it, a second call completes
    it (`complete`), and between the two the set cannot be loaded, because its files do not fit together. Raises
    SetError where they do not fit before.
    """
    complete(folder)
    rows = pd.read_csv(folder / FILE, dtype=str, keep_default_na=False)
    out = chosen(rows).to_numpy(dtype=bool)
    if not out.any():
        return 0
    mark, kept = _mark(folder), rows[~out].copy()
    places = kept["index"].astype(int).to_numpy()
    order = np.sort(places)
    arrays = [name for name in (ARRAY, HISTOGRAMS) if (folder / name).is_file()]
    for name in arrays:
        _fits(folder / name, len(rows), order)
    for name in arrays:
        _write_rows(folder, name, mark, order)
    kept["index"] = np.searchsorted(order, places).astype(str)
    part = folder / f"{FILE}.{mark}.part"  # once it is there, all parts are
    with part.with_suffix(".new").open("w", encoding="utf-8", newline="") as file:
        kept.to_csv(file, index=False, lineterminator="\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(part.with_suffix(".new"), part)
    complete(folder)
    return int(out.sum())


def complete(folder: Path) -> None:
    """Complete a removal that was interrupted, or undo it where its parts were not all written. Does nothing else."""
    mark = _mark(folder) if (folder / FILE).is_file() else ""
    if mark and (folder / f"{FILE}.{mark}.part").is_file():
        for name in ORDER:
            if (part := folder / f"{name}.{mark}.part").is_file():
                os.replace(part, folder / name)
                sync_folder(folder)
    for path in folder.glob("*"):
        if PART.fullmatch(path.name):
            path.unlink()
    if (folder / ARRAY).is_file():
        _cut(folder / ARRAY)


def _cut(path: Path) -> None:
    """Cut off what lies behind the images that the file's header counts: an ingest that was killed has left it."""
    with path.open("rb") as file, suppress(ValueError):  # what is no array is nobody's images
        if np.lib.format.read_magic(file) == (1, 0):
            shape, _, kind = np.lib.format.read_array_header_1_0(file)
            end = file.tell() + prod(shape) * kind.itemsize
            if path.stat().st_size > end:
                os.truncate(path, end)


def _fits(path: Path, rows: int, order: np.ndarray) -> None:
    n = len(np.load(path, mmap_mode="r"))
    if n != rows or (len(order) and (order.min() < 0 or order.max() >= n)):
        raise SetError(f"{path} does not fit its manifest ({n} and {rows} rows); run ingest again")


def _write_rows(folder: Path, name: str, mark: str, order: np.ndarray) -> None:
    old = np.load(folder / name, mmap_mode="r")
    part = folder / f"{name}.{mark}.part"
    new = np.lib.format.open_memmap(part, "w+", dtype=old.dtype, shape=(len(order), *old.shape[1:]))
    for start in range(0, len(order), ROWS):
        new[start : start + ROWS] = old[order[start : start + ROWS]]
    new.flush()
    del new
    with part.open("rb") as file:
        os.fsync(file.fileno())


def _mark(folder: Path) -> str:
    """Return what parts of this set are named by, so that those of a set that was ingested anew are told apart."""
    return hashlib.sha256((folder / FILE).read_bytes()).hexdigest()[:16]
