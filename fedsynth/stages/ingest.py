"""Stage `ingest`: writes the records of a source as one array file and one manifest per site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedsynth.data import images, manifest
from fedsynth.params import Params
from fedsynth.sources import Record, Source


def fingerprint(params: Params) -> dict[str, str]:
    """Return the fingerprint of the source's files; DVC runs the stage again when it changes."""
    source = params.source.build(image=params.image.sourced, seed=params.seed)
    return {"source": params.source.class_path, "fingerprint": source.fingerprint()}


def fingerprint_given(params: Params) -> dict[str, str]:
    """Return the fingerprint of the set named by `sample.given`, at the centre.

    DVC draws the synthetic sets again when it changes.
    """
    named = params.sample.given
    if named is None:
        return {"fingerprint": ""}
    if isinstance(named, str):
        return {"fingerprint": manifest.digest(manifest.read(Path(named)))}
    return {"fingerprint": named.build(image=params.image.sourced, seed=params.seed).fingerprint()}


def ingest(params: Params, folder: Path) -> dict[str, pd.DataFrame]:
    """Ingest every site of the source into `folder`/<site>. Prints a line for each site; returns site -> manifest."""
    source = params.source.build(image=params.image.sourced, seed=params.seed)
    return {site: ingest_site(params, source, site, folder) for site in source.sites()}


def ingest_site(params: Params, source: Source, site: str, folder: Path) -> pd.DataFrame:
    """Write one site's records to `folder`/<site>/manifest.csv and images.npy. Returns the manifest.

    A record that cannot be used keeps a row with the reason. Raises SetError for a site that the source does not have.
    """
    if site not in source.sites():
        raise manifest.SetError(f"the source has no site {site!r}; it names {', '.join(source.sites())}")
    rows, arrays = [], [np.zeros((0, len(params.image.channels), *params.image.size), np.float32)]
    for number, record in enumerate(source.records(site)):
        name = f"{site}-{number:05d}"
        row, array = _row(params, record, name)
        rows.append(row | {"image_id": name, "site": site, "index": number})
        arrays.append(array[None])
    table = manifest.frame(rows)
    manifest.write(Path(folder) / site, table, np.concatenate(arrays))
    print(_line(site, table, params.image.labels), flush=True)
    return table


def _row(params: Params, record: Record, name: str) -> tuple[dict[str, Any], np.ndarray]:
    image, problem, spacing = params.image, record.problem or _wrong_split(record), None
    array = np.zeros((len(image.channels), *image.size), np.float32)
    if not problem:
        try:
            array, spacing = images.fit(record, image.sourced)
            array = _derive(params, array, name)
        except manifest.SetError as error:
            problem = str(error)
    read = [record.channels[c] for c in image.images if c in record.channels]
    facts = {
        "subject": record.subject,
        "label": record.label,
        "modality": "+".join(image.images),
        "split": _split(params, record),
        "origin": "real",
        "spacing_mm": manifest.by(spacing),
        "source_shape": manifest.by(read[0].shape) if read else "",
        "mask_shape": manifest.by(record.mask_shape),
        "nonfinite": sum(int((~np.isfinite(plane)).sum()) for plane in read),
        "file": record.file,
        "problem": problem,
    }
    return manifest.row(len(image.images), array, **facts), array


def _derive(params: Params, array: np.ndarray, name: str) -> np.ndarray:
    """Add the derived channels, computed from the scaled channels so that both have the same scale."""
    if not params.image.derived:
        return array
    from fedsynth.operators import derive

    return derive(params.image, array, f"{params.seed}/{name}")


def _split(params: Params, record: Record) -> str:
    """Return the record's own split if it has one, else a split by hash of the subject."""
    own = record.split if record.split in manifest.SPLITS else ""
    return own or manifest.split_of(record.subject, params.split.val, params.split.test, params.seed)


def _wrong_split(record: Record) -> str:
    if record.split in ("", *manifest.SPLITS):
        return ""
    return f"{record.file} is in the split {record.split!r}; a source may name {', '.join(manifest.SPLITS)}, or none"


def _line(site: str, table: pd.DataFrame, labels: list[str]) -> str:
    """Return a summary: "north: 180 images · none 90 (52 train, 10 val, 28 test) · … · 2 problems, the first: …"."""
    parts = [f"{site}: {len(table)} images"]
    for label in [*labels, *sorted(set(table["label"]) - set(labels))]:
        splits = table.loc[table["label"] == label, "split"].value_counts()
        detail = ", ".join(f"{splits[s]} {s}" for s in manifest.SPLITS if s in splits)
        parts.append(f"{label or '(no label)'} {splits.sum()}" + (f" ({detail})" if detail else ""))
    bad = table.loc[table["problem"] != "", "problem"]
    return " · ".join(parts + ([f"{len(bad)} problems, the first: {bad.iloc[0]}"] if len(bad) else []))
