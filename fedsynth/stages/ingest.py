"""Stage `ingest`: writes the records of a source as one array file and one manifest per site."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd

from fedsynth.data import images, manifest, removal, splits
from fedsynth.data.record import limits_of
from fedsynth.hospital import withdrawals
from fedsynth.hospital.pseudonyms import Pseudonyms
from fedsynth.params import Params, names
from fedsynth.sources import Record, Source
from fedsynth.stages import kept
from fedsynth.stages.prepared import Limits, Preparing
from fedsynth.stages.site_set import DEALT, Reading, SiteSet

SAMPLED = 4096  # values of each image from which percentiles over a site are computed


def ingest(params: Params, folder: Path, state: Path | None = None, anew: bool = False) -> dict[str, pd.DataFrame]:
    """Every site of the source into `folder`/<key of its name>, in place of the sets of an earlier source; the
    manifests by site. A line for each site is printed. `state`, `anew`: see `ingest_site`.
    """
    source = params.source.build(image=params.image.sourced, seed=params.seed)
    sites = names.keys(source.sites())
    for old in [p.parent for p in Path(folder).glob(f"*/{manifest.FILE}") if p.parent.name not in sites.values()]:
        shutil.rmtree(old)
    return {site: ingest_site(params, source, site, folder, state, anew) for site in sites}


def ingest_site(
    params: Params, source: Source, site: str, folder: Path, state: Path | None = None, anew: bool = False
) -> pd.DataFrame:
    """One site's records into `folder`/<key>/manifest.csv and images.npy (fedsynth/params/names.py). A record that
    cannot be used keeps a row that says why. `site`: the site's name, or its key. `state`: the folder of all sites'
    states; patients whom `fedsynth forget` has noted there are left out. They still count where subjects are dealt out
    to splits, so that nobody else moves from training to test because they went; no pixel of theirs does.

    Records are read and prepared in `FEDSYNTH_INGEST_PROCESSES` processes where the source gives its units. What a unit
    that has not changed since the last ingest (`Source.stamp`, `kept.settings`) has in the set stays, unless `anew`:
    what is written is the same as of reading all. Where all of the set stays and more follows, it is appended.

    Raises SetError for a site that the source does not name, and ParamsError for one that cannot have its name.
    """
    known = names.keys(source.sites())
    if (named := names.find(site, known)) is None:
        raise manifest.SetError(f"the source has no site {site!r}; it names {', '.join(known)}")
    own = None if state is None else state / known[named]
    with nullcontext() if own is None else withdrawals.alone(own):
        made = _made(params, Reading(source, named), known[named], Path(folder) / known[named], own, anew)
    print(made.line(), flush=True)
    return made.table


def _made(params: Params, reading: Reading, key: str, folder: Path, state: Path | None, anew: bool) -> SiteSet:
    """Write the set of a site. `state`: its own."""
    gone = Pseudonyms() if state is None else withdrawals.forgotten(state)
    removal.complete(folder)  # and clears away what an ingest has left that was killed
    limits = _site_limits(params, reading, gone)
    stamps = reading.stamps() if state else [""] * len(reading.units or ())
    settings = kept.settings(params, key, limits) if any(stamps) else ""
    before = kept.NOTHING
    if state and settings and not anew:
        before = kept.read(state, folder, settings, gone.__contains__)
    made = SiteSet(params, reading.site, key, before)
    made.write(folder, reading, stamps, Preparing(params, limits, gone.__contains__))
    if state:
        kept.write(state, folder, settings, made.units)
    return made


def _site_limits(params: Params, reading: Reading, gone: Pseudonyms) -> Limits:
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

    def sampled(record: Record) -> tuple[dict[str, str], dict[str, np.ndarray]]:
        used = not record.problem and record.subject not in gone
        dealt = {"subject": record.subject, "label": record.label, "split": record.split}
        return dealt, {c: _sample(record.channels[c]) for c in asked if used and c in record.channels}

    found = [of for of in reading.each(sampled, range(len(reading.units or ()))) if of is not None]
    frame = pd.DataFrame([dealt for dealt, _ in found], columns=DEALT)
    places = splits.assign(frame, params.split, params.seed, reading.site)
    train = [some for (_, some), place in zip(found, places, strict=True) if place == "train"]
    parts = {c: [some[c] for some in train if c in some] for c in asked}
    return {c: limits_of(np.concatenate(parts[c]), ends) for c, ends in asked.items() if parts[c]}


def _sample(plane: np.ndarray) -> np.ndarray:
    """At most `SAMPLED` finite values, evenly spaced; a copy, so that the image does not stay in memory with them."""
    values = plane[np.isfinite(plane)]
    return values[:: max(1, -(-values.size // SAMPLED))].copy()
