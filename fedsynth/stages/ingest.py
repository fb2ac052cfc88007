"""Stage `ingest`: writes the records of a source as one array file and one manifest per site."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedsynth.data import images, manifest, people, removal, splits
from fedsynth.data.record import MANY, limits_of
from fedsynth.data.stored import Writer
from fedsynth.hospital import withdrawals
from fedsynth.hospital.pseudonyms import Pseudonyms
from fedsynth.params import Params, names
from fedsynth.sources import Record, Source

DEALT = ("subject", "label", "split")  # what splits are dealt out by
SAMPLED = 4096  # values of each image from which percentiles over a site are computed


def ingest(params: Params, folder: Path, state: Path | None = None) -> dict[str, pd.DataFrame]:
    """Every site of the source into `folder`/<key of its name>, in place of the sets of an earlier source; the
    manifests by site. A line for each site is printed. `state`: see `ingest_site`.
    """
    source = params.source.build(image=params.image.sourced, seed=params.seed)
    sites = names.keys(source.sites())
    for old in [p.parent for p in Path(folder).glob(f"*/{manifest.FILE}") if p.parent.name not in sites.values()]:
        shutil.rmtree(old)
    return {site: ingest_site(params, source, site, folder, state) for site in sites}


def ingest_site(params: Params, source: Source, site: str, folder: Path, state: Path | None = None) -> pd.DataFrame:
    """One site's records into `folder`/<key>/manifest.csv and images.npy (fedsynth/params/names.py). A record that
    cannot be used keeps a row that says why. `site`: the site's name, or its key. `state`: the folder of all sites'
    states; patients whom `fedsynth forget` has noted there are left out. They still count where subjects are dealt out
    to splits, so that nobody else moves from training to test because they went; no pixel of theirs does.

    Raises SetError for a site that the source does not name, and ParamsError for one that cannot have its name.
    """
    known = names.keys(source.sites())
    if (named := names.find(site, known)) is None:
        raise manifest.SetError(f"the source has no site {site!r}; it names {', '.join(known)}")
    site, key = named, known[named]
    gone = withdrawals.forgotten(state / key) if state else Pseudonyms()
    limits = _site_limits(params, source, site, gone)
    left_out: list[dict[str, str]] = []
    rows: list[dict[str, Any]] = []
    counts = [np.zeros((0, len(params.image.images), manifest.BINS), np.uint32)]
    shape = (len(params.image.channels), *params.image.size)
    removal.complete(Path(folder) / key)  # and clears away what an ingest has left that was killed
    with Writer(Path(folder) / key / manifest.ARRAY, shape) as written:
        for number, record in enumerate(source.records(site)):
            name = f"{key}-{number:05d}"
            if record.subject in gone:
                left_out.append({"subject": record.subject, "label": record.label, "split": record.split})
                continue
            # before it is brought onto one grid
            bars, ends = histograms(record, params.image.images)
            counts.append(bars[None])
            row, array = _row(params, record, name, limits)
            rows.append(row | {"image_id": name, "site": site, "index": len(rows), "values": _between(ends)})
            written.add(array)
        table = manifest.frame(rows)
        dealt = pd.concat([table[list(DEALT)], pd.DataFrame(left_out, columns=DEALT, dtype=str)], ignore_index=True)
        table["split"] = splits.assign(dealt, params.split, params.seed, site)[: len(table)]
    manifest.write_rows(Path(folder) / key, table)
    np.save(Path(folder) / key / manifest.HISTOGRAMS, np.concatenate(counts))
    said = f" · {len(left_out)} of patients who have withdrawn left out" if left_out else ""
    print(_line(site if key == site else f"{site} ({key})", table, params.image.labels) + said, flush=True)
    return table


def _site_limits(params: Params, source: Source, site: str, gone: Pseudonyms) -> dict[str, tuple[float, float]]:
    """Percentiles over the training images of the site, of each channel whose scale asks for them. They are computed
    here, in a first reading of the images, from evenly spaced values of each, and stay here. Images of patients in
    `gone` do not count.
    """
    image = params.image.sourced
    asked = {
        c: image.scaling(c).percentiles or images.PERCENTILES for c in image.images if image.scaling(c).of == "site"
    }
    if not asked:
        return {}
    rows, found = [], []
    for record in source.records(site):
        rows.append({"subject": record.subject, "label": record.label, "split": record.split})
        used = not record.problem and record.subject not in gone
        found.append({c: _sample(record.channels[c]) for c in asked if used and c in record.channels})
    frame = pd.DataFrame(rows, columns=DEALT)
    places = splits.assign(frame, params.split, params.seed, site)
    train = [some for some, place in zip(found, places, strict=True) if place == "train"]
    parts = {c: [some[c] for some in train if c in some] for c in asked}
    return {c: limits_of(np.concatenate(parts[c]), ends) for c, ends in asked.items() if parts[c]}


def histograms(record: Record, channels: list[str]) -> tuple[np.ndarray, dict[str, tuple[float, float]]]:
    """(C, BINS) counts of each channel's finite values as read, and the least and the largest between which they are
    counted; 0, and no ends, where a channel is not there. Above `MANY` values evenly spaced ones are counted.
    """
    found, ends = np.zeros((len(channels), manifest.BINS), np.uint32), {}
    for place, name in enumerate(channels):
        values = _finite(record, name)
        if values.size:
            ends[name] = values.min(), values.max()
            found[place] = np.histogram(values[:: -(-values.size // MANY)], manifest.BINS, ends[name])[0]
    return found, ends


def _between(ends: dict[str, tuple[float, float]]) -> str:
    """ "t1 0..812, t2 0..1024" """
    return ", ".join(f"{name} {low:.6g}..{high:.6g}" for name, (low, high) in ends.items())


def _finite(record: Record, name: str) -> np.ndarray:
    plane = record.channels.get(name, np.zeros(0))
    finite = np.isfinite(plane)
    return plane.ravel() if finite.all() else plane[finite]


def _sample(plane: np.ndarray) -> np.ndarray:
    """At most `SAMPLED` finite values, evenly spaced."""
    values = plane[np.isfinite(plane)]
    return values[:: max(1, -(-values.size // SAMPLED))]


def _row(
    params: Params, record: Record, name: str, limits: dict[str, tuple[float, float]]
) -> tuple[dict[str, Any], np.ndarray]:
    image, problem, fitted = params.image, record.problem or _wrong_split(record), None
    array = np.zeros((len(image.channels), *image.size), np.float32)
    if not problem:
        try:
            fitted = images.fit(record, image.sourced, limits)
            array = _derive(params, fitted.array, name)
        except manifest.SetError as error:
            problem = str(error)
    read = [record.channels[c] for c in image.images if c in record.channels]
    facts = {
        "subject": record.subject,
        "label": record.label,
        "sex": people.sex_of(record.sex),
        "age": people.band_of(record.age),
        "modality": "+".join(image.images),
        "split": record.split,
        "origin": "real",
        "spacing_mm": manifest.by(fitted.spacing_mm if fitted else None),
        "source_shape": manifest.by(read[0].shape) if read else "",
        "mask_shape": manifest.by(record.mask_shape),
        "outside": fitted.outside if fitted else 0.0,
        "scaled": _between(fitted.limits) if fitted else "",
        "lacks": "+".join(c for c in image.sourced.channels if c not in record.channels) if fitted else "",
        "notes": "; ".join(dict.fromkeys(record.notes)),
        "warning": "; ".join(dict.fromkeys(record.warnings)),
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
