"""A site's set as it is written: what was read of the source, and what stays of the set before."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import pandas as pd

from fedsynth.data import manifest, splits, workers
from fedsynth.data.stored import Writer, owned
from fedsynth.params import Params
from fedsynth.settings import ingest_processes
from fedsynth.sources import Record, Source
from fedsynth.stages import kept
from fedsynth.stages.prepared import Prepared, Preparing, derived

DEALT = ("subject", "label", "split")  # what splits are dealt out by
T = TypeVar("T")
UNITS = 4  # of a source, that a process reads one after the other


class Reading:
    """The records of a site of a source, by its units; None where it has none, or says itself what its records are."""

    def __init__(self, source: Source, site: str):
        self.source, self.site = source, site
        self.units = source.units(site) if type(source).records is Source.records else None

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
                with closing(workers.mapped(lambda part: self._done(work, part), parts, ingest_processes())) as results:
                    yield from results
        except workers.KilledError as error:
            raise manifest.SetError(
                f"{self.site}: {error}, as it read numbers {error.task[0] + 1} to {error.task[-1] + 1} of the source's"
                " images; the set is as it was. Run ingest again, with FEDSYNTH_INGEST_PROCESSES=1 if memory is short"
            ) from error

    def _done(self, work: Callable[[Record], T], part: Sequence[int]) -> Generator[T | None]:
        assert self.units is not None
        for number in part:
            yield from map(work, self.source.of_unit(self.site, self.units[number]))
            yield None


class SiteSet:
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

    def write(self, folder: Path, reading: Reading, stamps: list[str], prepare: Preparing) -> None:
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


def _line(site: str, table: pd.DataFrame, labels: list[str]) -> str:
    """Return a summary: "north: 180 images · none 90 (52 train, 10 val, 28 test) · … · 2 problems, the first: …"."""
    parts = [f"{site}: {len(table)} images"]
    for label in [*labels, *sorted(set(table["label"]) - set(labels))]:
        splits = table.loc[table["label"] == label, "split"].value_counts()
        detail = ", ".join(f"{splits[s]} {s}" for s in manifest.SPLITS if s in splits)
        parts.append(f"{label or '(no label)'} {splits.sum()}" + (f" ({detail})" if detail else ""))
    bad = table.loc[table["problem"] != "", "problem"]
    return " · ".join(parts + ([f"{len(bad)} problems, the first: {bad.iloc[0]}"] if len(bad) else []))
