"""What may be answered to a question for rows of the table of worth: these rows, counts and ranges, nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fedsynth.data.people import BANDS, SEXES, UNKNOWN
from fedsynth.hospital import outgoing
from fedsynth.hospital.outgoing.cells import total_shown
from fedsynth.hospital.outgoing.digits import of_use
from fedsynth.hospital.outgoing.judging import COUNTS_IMAGES
from fedsynth.params import Params
from nvflare_jobs.centre.answers import demand

if TYPE_CHECKING:
    from fedsynth.measures import Measure
    from fedsynth.uses import Use

LARGEST = 1e9  # of a number without an end of its own; its square, summed, is still a number
TINY = 1e-6  # what rounding may have added beyond an end
ROUNDED = 1e-2  # step of a rounded covariance, as a share of its largest entry (fedsynth/hospital/outgoing/digits.py)


@dataclass(frozen=True)
class Asked:
    """A question for rows of the table of worth, and what may be answered to it.

    `sent`: kinds of the networks that the centre has sent: `pooled` is among them in simulation only. `name`: the
    model, "" if none. `cells`: site -> counts of its images, as its validation has shown them.
    """

    job: Literal["reference", "score"]
    params: Params
    name: str
    sent: frozenset[str]
    cells: Mapping[str, outgoing.Shown]

    def hold(self, site: str, answer: Any) -> dict[str, Any]:
        """The answer of a site. Raises LeakError or Refused where it is not one to this question."""
        known = outgoing.vocabulary(self.job, self.params, site, self.name)
        found = outgoing.arrive(self.job, answer, known, self.params.consortium.min_cell, self.cells[site])
        self._rows(site, found["rows"])
        if self.job == "score":
            self._spread(site, found.get("spread", []))
            self._measures(site, found.get("measures", {}))
            self._calibration(site, found.get("calibration", []))
        return found

    @cached_property
    def _uses(self) -> dict[str, Use]:
        return {name: block.build(**self.params.image.context()) for name, block in self.params.score.uses.items()}

    @cached_property
    def _asked(self) -> dict[str, Measure]:
        return {name: block.build(**self.params.image.context()) for name, block in self.params.score.measures.items()}

    def kinds(self, site: str) -> dict[str, str]:
        """Kind -> what its networks were trained on, of the rows that are asked of this site."""
        own = {"reference": "local", "score": "augmented"}[self.job]
        trained = {own: site} if self.params.split.only(site) != "test" else {}
        sent = {kind: "public" if kind == "public" else "all" for kind in self.sent}
        return trained | (sent if self.job == "reference" else {"synthetic": self.name})

    def _rows(self, site: str, rows: list[dict[str, Any]]) -> None:
        asked = {
            (use, kind, on, self.name, site, seed)
            for use in self._uses
            for kind, on in self.kinds(site).items()
            for seed in self.params.score.seeds
        }
        found = [tuple(row[k] for k in ("use", "name", "trained_on", "model", "site", "seed")) for row in rows]
        for i, key in enumerate(found):
            demand(key in asked, f"rows.{i}: was not asked of this site")
            demand(key not in found[:i], f"rows.{i}: is there twice")
            self._row(site, i, rows[i])
        demand(len(found) == len(asked), f"rows: are {len(found)} and not the {len(asked)} that were asked for")

    def _row(self, site: str, i: int, row: dict[str, Any]) -> None:
        use, total = self._uses[row["use"]], total_shown(self.cells[site], "test")
        demand(use.headline in row["metrics"], f"rows.{i}.metrics: lacks the headline")
        demand(row["n"].keys() <= set(use.metrics), f"rows.{i}.n: are not the use's metrics")
        for metric, value in row["metrics"].items():
            low, high = use.within(metric)
            if isinstance(n := row["n"].get(metric), int):  # the end leaves in as many digits, too: 32.98 as 33
                high = max(high, of_use(high, n) or high)
            _within(value, (low, high), f"rows.{i}.metrics")
        least = self.params.consortium.min_cell
        for n in row["n"].values():
            demand(isinstance(n, str) or least <= n <= total, f"rows.{i}.n: is more than the site's test images")
            demand(n == "withheld" or isinstance(n, int) or _below(n) >= least, f"rows.{i}.n: is no such count")

    def _spread(self, site: str, spread: list[dict[str, Any]]) -> None:
        networks = {"synthetic", *self.sent, *(["local", "augmented"] if "augmented" in self.kinds(site) else [])}
        demand(sorted(of["use"] for of in spread) == sorted(self._uses), "spread: is not one of each use")
        for i, of in enumerate(spread):
            use = self._uses[of["use"]]
            about = (of["site"], of["model"], of["metric"]) == (site, self.name, use.headline)
            demand(about and sorted(of["names"]) == sorted(networks), f"spread.{i}: was not asked of this site")
            if of["covariance"] is not None:
                demand(isinstance(of["n"], int) and of["n"] <= total_shown(self.cells[site], "test"),
                        f"spread.{i}.n: is more than the site's test images")  # fmt: skip
                low, high = use.within(use.headline)
                _covariance(of["covariance"], (high - low) ** 2 / 3.9, f"spread.{i}.covariance", ROUNDED)

    def _measures(self, site: str, measures: dict[str, Any]) -> None:
        demand(measures.keys() == self._asked.keys(), "measures: are not those that were asked for")
        for name, measure in self._asked.items():
            values, about = measures[name]["values"], measure.about
            demand(values.keys() == about.keys(), "measures.values: are not the measure's")
            for number, of in values.items():
                self._counts(site, of["n"])
                for end in ("value", "floor", "low", "high"):
                    _within(of[end], about[number].within, f"measures.values.{end}")
                demand(not of.get("some") or number.startswith(COUNTS_IMAGES), "measures.values.some: is of no count")
                if None not in (of["low"], of["high"]):
                    demand(of["low"] <= of["high"], "measures.values.low: is above high")
            for which, moments in measures[name]["moments"].items():
                splits = ("train",) if which == "train" else ("val", "test")
                demand(moments["n"] <= total_shown(self.cells[site], *splits), "measures.moments.n: is too large")
                demand(max(map(abs, moments["mean"])) <= LARGEST, "measures.moments.mean: is out of range")
                _covariance(moments["covariance"], LARGEST**2, "measures.moments.covariance", TINY)

    def _calibration(self, site: str, entries: list[dict[str, Any]]) -> None:
        """Each group once, of networks that were asked for; of sex and age those of the closed list alone."""
        labels, total = self.params.image.labels, total_shown(self.cells[site], "test")
        known = {"site": ["all"], "class": labels, "sex": [*SEXES, UNKNOWN], "age": [*BANDS, UNKNOWN]}
        kinds = {"synthetic", "pooled" if "pooled" in self.sent else "federated"}
        seen = set()
        for i, of in enumerate(entries):
            use = self._uses.get(of["use"])
            fits = use is not None and "ece" in use.metrics and of["name"] in kinds and of["group"] in known[of["by"]]
            demand(
                fits and (of["site"], of["model"]) == (site, self.name), f"calibration.{i}: was not asked of this site"
            )
            key = (of["use"], of["name"], of["by"], of["group"])
            demand(key not in seen, f"calibration.{i}: is there twice")
            seen.add(key)
            demand(isinstance(of["n"], str) or of["n"] <= total, f"calibration.{i}.n: is more than the test images")
            for end in ("value", "low", "high"):
                _within(of[end], (0.0, 1.0), f"calibration.{i}.{end}")

    def _counts(self, site: str, n: dict[str, Any]) -> None:
        train, held_out = (total_shown(self.cells[site], *s) for s in (("train",), ("val", "test")))
        real = held_out + train if "members" in n else max(held_out, train)  # of a diversity, the training images
        drawn = self.params.sample.images
        most = {"real": real, "train": train, "members": train, "non_members": held_out, "synthetic": drawn}
        most["canaries"] = self.params.audit.canaries
        fits = all(k in most and (isinstance(of, str) or of <= most[k]) for k, of in n.items())
        demand(fits, "measures.values.n: is more than the site's images, or the set's")


def _below(cell: str) -> int:
    return int(cell.removeprefix("< "))


def _within(value: float | None, ends: tuple[float, float], where: str) -> None:
    low, high = (min(max(end, -LARGEST), LARGEST) for end in ends)
    demand(value is None or low - TINY <= value <= high + TINY, f"{where}: is out of range")


def _covariance(matrix: list[list[float]], most: float, where: str, step: float) -> None:
    """Raises Refused unless the matrix is symmetric and positive semi-definite, with variances of at most `most`.

    `step`: that of its entries, as a share of the largest; entries off by half of it move an eigenvalue by at most half
    of it times the size (Weyl's inequality). Of numbers in an interval the variance is at most a quarter of its squared
    width (Popoviciu's inequality).
    """
    found = np.array(matrix, dtype=np.float64)
    largest = float(np.abs(found).max(initial=0.0))
    demand(largest <= most and np.allclose(found, found.T, rtol=0, atol=TINY * largest), f"{where}: is no covariance")
    if largest:
        least = float(np.linalg.eigvalsh(found / largest).min())
        demand(math.isfinite(least) and least >= -step * len(found), f"{where}: is not positive semi-definite")
