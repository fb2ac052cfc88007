"""Stage `ingest`: writes the records of a source as one array file and one manifest per site."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import pandas as pd

from fedsynth.data import images, manifest, removal, splits, workers
from fedsynth.data.record import limits_of
from fedsynth.data.stored import Writer, owned
from fedsynth.hospital import withdrawals
from fedsynth.hospital.pseudonyms import Pseudonyms
from fedsynth.params import Params, names
from fedsynth.settings import processes
from fedsynth.sources import Record, Source
from fedsynth.stages import kept
from fedsynth.stages.prepared import Limits, Prepared, Preparing, derived

DEALT = ("subject", "label", "split")  # what splits are dealt out by
SAMPLED = 4096  # values of each image from which percentiles over a site are computed
T = TypeVar("T")
UNITS = 4  # of a source, that a process reads one after the other


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

    Records are read and prepared in `FEDSYNTH_PROCESSES` processes where the source gives its units. What a unit that
    has not changed since the last ingest (`Source.stamp`, `kept.settings`) has in the set stays, unless `anew`: what is
    written is the same as of reading all. Where all of the set stays and more follows, it is appended.

    Raises SetError for a site that the source does not name, and ParamsError for one that cannot have its name.
    """
    known = names.keys(source.sites())
    if (named := names.find(site, known)) is None:
        raise manifest.SetError(f"the source has no site {site!r}; it names {', '.join(known)}")
    site, key = named, known[named]
    own, place = None if state is None else state / key, Path(folder) / key
    gone = Pseudonyms() if own is None else withdrawals.forgotten(own)
    removal.complete(place)  # and clears away what an ingest has left that was killed
    reading = _Reading(source, site)
    limits = _site_limits(params, reading, gone)
    stamps = reading.stamps() if own else [""] * len(reading.units or ())
    settings = kept.settings(params, key, limits) if any(stamps) else ""
    before = kept.read(own, place, settings, gone.__contains__) if own and settings and not anew else kept.NOTHING
    made = _Set(params, site, key, before)
    made.write(place, reading, stamps, Preparing(params, limits, gone.__contains__))
    if own:
        kept.write(own, place, settings, made.units)
    print(made.line(), flush=True)
    return made.table


class _Reading:
    """The records of a site of a source."""

    def __init__(self, source: Source, site: str):
        self.source, self.site, self.units = source, site, source.units(site)

    def stamps(self) -> list[str]:
        """Of each unit; none where the source has no units."""
        return [self.source.stamp(self.site, unit) for unit in self.units or ()]

    def each(self, work: Callable[[Record], T], chosen: Sequence[int]) -> Generator[Any]:
        """Yield what `work` makes of the records of each of the `chosen` units, and None at the end of each. Of a
        source without units: of all records. Raises SetError where a process was killed.
        """
        parts = [chosen[start : start + UNITS] for start in range(0, len(chosen), UNITS)]
        try:
            if self.units is None:
                yield from map(work, self.source.records(self.site))
            else:
                with closing(workers.mapped(lambda part: self._done(work, part), parts, processes())) as results:
                    yield from results
        except workers.KilledError as error:
            raise manifest.SetError(
                f"{self.site}: {error}, as it read numbers {error.task[0] + 1} to {error.task[-1] + 1} of the source's"
                " images; the set is as it was. Run ingest again, with FEDSYNTH_PROCESSES=1 if memory is short"
            ) from error

    def _done(self, work: Callable[[Record], T], part: Sequence[int]) -> Generator[T | None]:
        assert self.units is not None
        for number in part:
            yield from map(work, self.source.of_unit(self.site, self.units[number]))
            yield None


class _Set:
    """A site's set as it is written: `table`, its manifest, and `units` of the source, with what of it is theirs."""

    def __init__(self, params: Params, site: str, key: str, before: kept.Before):
        self.params, self.site, self.key, self.before = params, site, key, before
        self.units: list[kept.Unit] = []
        self.rows: list[dict[str, Any]] = []
        self.left_out: list[dict[str, str]] = []
        self.histograms: list[np.ndarray] = []
        self.read = self.seen = 0  # of all images: those that were not in the set before; with those left out
        # of the unit that is read: where its images begin; of each its own split, and whether it is a good one
        self.first, self.begun = 0, list[tuple[str, bool]]()

    def write(self, folder: Path, reading: _Reading, stamps: list[str], prepare: Preparing) -> None:
        """Write the images, then what says which they are."""
        before, image = self.before.of(stamps), self.params.image
        stays = self.before.all_first(before)
        if image.derived and not stays:
            before = [None] * len(before)  # chance in a derived channel follows from the image's number in the set
        stays = stays and owned(folder / manifest.ARRAY)
        to_read = [number for number, found in enumerate(before) if found is None]
        after = len(self.before.rows) if stays else 0
        with (
            closing(reading.each(prepare, to_read)) as results,
            Writer(folder / manifest.ARRAY, (len(image.channels), *image.size), after) as written,
            (folder / manifest.ARRAY).open("rb") if self.before.rows else nullcontext() as old,
        ):
            for stamp, found in zip(stamps, before, strict=True):
                if found is not None:
                    self._keep(*found, None if stays else old, written)
                    continue
                for result in iter(lambda: next(results), None):
                    self._add(result, written)
                self._end(stamp)
            for result in results:  # of a source without units
                self._add(result, written)
            self.table = self._table()
        counts = [np.zeros((0, len(image.images), manifest.BINS), np.uint32), *self.histograms]
        np.save(folder / manifest.HISTOGRAMS, np.concatenate(counts))
        manifest.write_rows(folder, self.table)

    def _add(self, found: Prepared, written: Writer) -> None:
        name = self._name()
        if found.row is None:
            self.left_out.append(found.dealt)
            self.begun.append((found.dealt["split"], False))
            return
        assert found.histograms is not None
        row, array = derived(self.params, found, name)
        self.rows.append(row | {"image_id": name, "site": self.site, "index": len(self.rows)})
        self.histograms.append(found.histograms[None])
        self.begun.append((found.dealt["split"], not row["problem"]))
        self.read += 1
        written.add(array)

    def _end(self, stamp: str) -> None:
        """Note the unit. One with a problem is read again next time, and one whose patient is left out."""
        own, good = {split for split, _ in self.begun}, all(good for _, good in self.begun)
        stays = good and len(own) == 1
        images = len(self.rows) - self.first
        self.units.append(kept.Unit(stamp if stays else "", images, own.pop() if stays else ""))
        self.first, self.begun = len(self.rows), []

    def _keep(self, first: int, unit: kept.Unit, old: BinaryIO | None, written: Writer) -> None:
        """Take over what the set before has of a unit. `old`: its images, None where they stay where they are."""
        for place in range(first, first + unit.images):
            own = {"image_id": self._name(), "site": self.site, "index": len(self.rows), "split": unit.split}
            self.rows.append(self.before.rows[place] | own)
            if old is not None:
                written.copy(old, place)
        self.histograms.append(self.before.histograms[first : first + unit.images])
        self.units.append(unit)
        self.first = len(self.rows)

    def _name(self) -> str:
        self.seen += 1
        return f"{self.key}-{self.seen - 1:05d}"

    def _table(self) -> pd.DataFrame:
        table = manifest.frame(self.rows)
        left_out = pd.DataFrame(self.left_out, columns=DEALT, dtype=str)
        dealt = pd.concat([table[list(DEALT)], left_out], ignore_index=True)
        table["split"] = splits.assign(dealt, self.params.split, self.params.seed, self.site)[: len(table)]
        return table

    def line(self) -> str:
        """What was made, in a line for a person."""
        said = _line(
            self.site if self.key == self.site else f"{self.site} ({self.key})", self.table, self.params.image.labels
        )
        if self.left_out:
            said += f" · {len(self.left_out)} of patients who have withdrawn left out"
        return said + f" · {self.read} read anew, the others kept" * bool(self.before.rows)


def _site_limits(params: Params, reading: _Reading, gone: Pseudonyms) -> Limits:
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


def _line(site: str, table: pd.DataFrame, labels: list[str]) -> str:
    """Return a summary: "north: 180 images · none 90 (52 train, 10 val, 28 test) · … · 2 problems, the first: …"."""
    parts = [f"{site}: {len(table)} images"]
    for label in [*labels, *sorted(set(table["label"]) - set(labels))]:
        splits = table.loc[table["label"] == label, "split"].value_counts()
        detail = ", ".join(f"{splits[s]} {s}" for s in manifest.SPLITS if s in splits)
        parts.append(f"{label or '(no label)'} {splits.sum()}" + (f" ({detail})" if detail else ""))
    bad = table.loc[table["problem"] != "", "problem"]
    return " · ".join(parts + ([f"{len(bad)} problems, the first: {bad.iloc[0]}"] if len(bad) else []))
