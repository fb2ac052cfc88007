"""FLARE aggregator that runs the server half of an algorithm, on numpy arrays."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.aggregators.model_aggregator import ModelAggregator
from safetensors.numpy import save_file

from fedsynth.compression import Arrays as Coded
from fedsynth.compression import Compression
from fedsynth.hospital.failures import FAILURES
from fedsynth.params import Block, Image
from fedsynth.training.coding import WHOLE, Downlink
from nvflare_jobs import keys
from nvflare_jobs.keys import ENCRYPTED
from nvflare_jobs.server import round_log
from nvflare_jobs.server.run import refuse, run_dir
from nvflare_jobs.server.saved import BESIDE
from nvflare_jobs.server.traffic import Wire
from nvflare_jobs.server.updates import check


class Aggregate(ModelAggregator):
    """Runs the server half of an algorithm (fedsynth/algorithms) as a FLARE aggregator.

    Updates that are not finite or do not fit the global parameters are left out. A round fails with fewer usable
    updates than `quorum`: while FLARE ends a job after a failure it keeps aggregating, and an incomplete round would
    become the global model.

    `algorithm`: the block of params.yaml as JSON text; FLARE would instantiate a mapping with a class_path itself.
    `encryption`: the block as JSON text, or ""; with it `total` and `opened` replace each site's update by the mean.
    `compression`: models.<name>.compression as JSON text, or "".
    """

    def __init__(self, algorithm: str, sites: list[str], quorum: int, encryption: str = "", compression: str = ""):
        super().__init__()
        self.algorithm, self.sites, self.quorum, self.encryption, self.compression = (
            algorithm,
            sites,
            quorum,
            encryption,
            compression,
        )
        self._answered: set[str] = set()  # sites that answered the previous round, so they hold its parameters
        self._downlink: Downlink | None = None
        self.records: list[dict[str, Any]] = []
        self.wire = Wire()
        self._built: Any = None
        self._updates: list[FLModel] = []
        self._resumed = 0
        self._began = time.monotonic()
        self._sent: dict[str, np.ndarray] = {}
        self._targets: list[str] = []
        self._job: dict[str, Any] = {}
        self._round, self._last = 0, False

    @property
    def built(self) -> Any:
        if self._built is None:
            self._built = Block(**json.loads(self.algorithm)).build()
        return self._built

    def _by(self, way: str) -> Compression | None:
        block = json.loads(self.compression or "{}").get(way)
        return Block(**block).build() if block else None

    def coded(
        self, arrays: dict[str, np.ndarray], number: int, targets: list[str]
    ) -> tuple[Coded, Coded, dict[str, Any]]:
        """Return what is sent in round `number`, the parameters that the sites then hold, and metadata of the coding.

        Without compression the first two are `arrays`, and the metadata are empty.
        """
        if (by := self._by("down")) is None:
            return arrays, arrays, {}
        self._downlink = self._downlink or Downlink(by)
        sent, about = self._downlink.encode(arrays, number, follows=set(targets) <= self._answered)
        return sent, self._downlink.have, {"coding": about}

    def begin(
        self, number: int, sent: dict[str, np.ndarray], targets: list[str], job: dict[str, Any], last: bool
    ) -> None:
        """Record the start of a round: the parameters `sent` to `targets` (as decoded there) and the question `job`."""
        self._began, self._round, self._sent, self._targets, self._job = time.monotonic(), number, sent, targets, job
        self._last = last

    def resume(self, done: int) -> None:
        """Continue after `done` rounds of earlier jobs, whose records are in the run folder."""
        self._resumed, self.records = done, round_log.read(run_dir(self.fl_ctx) / round_log.ROUNDS)

    def accept_model(self, model: FLModel) -> None:
        self._updates.append(model)

    def total(self) -> tuple[list[str], bytes]:
        """Return the sites whose encrypted differences can be added, and the encrypted sum.

        Raises RuntimeError where there are fewer than `quorum`, or fewer than two.
        """
        found = {
            m.meta["client_name"]: m.params[ENCRYPTED].tobytes()
            for m in self._updates
            if ENCRYPTED in m.params and _weight(m) > 0
        }
        enough = max(self.quorum, 2)
        if len(found) < enough:
            words = {
                m.meta["client_name"]: FAILURES.get(m.meta["failed"], FAILURES["error"])
                for m in self._updates
                if "failed" in m.meta
            }
            reasons = "".join(f"; site {site}: {why}" for site, why in sorted(words.items()))
            refuse(
                self.fl_ctx,
                f"{len(found)} of {len(self.sites)} sites have an encrypted update, {enough} are needed for a"
                f" sum{reasons}",
            )
        return sorted(found), self._cipher().add([found[site] for site in sorted(found)], keys.read(keys.PUBLIC))

    def opened(self, sites: list[str], total: np.ndarray) -> None:
        """Replace the update of each of these sites by their mean, computed from the decrypted sum `total`.

        Any weighted mean of these equal updates is again that mean.
        """
        equal = self.built.weighting == "equal"
        of = [m for m in self._updates if m.meta["client_name"] in sites]
        weight = sum(1.0 if equal else _weight(m) for m in of)
        mean = self._cipher().shaped(total / weight, {name: np.shape(a) for name, a in self._sent.items()})
        for model in of:
            model.params = mean

    def _cipher(self) -> Any:
        return Block(**json.loads(self.encryption)).build()

    def aggregate_model(self) -> FLModel:
        expected = set(self._targets) | set(self.built.sites_of_round(self.sites, self._round))
        left_out = {
            site: round_log.LATE if site in self._targets else round_log.ABSENT
            for site in self.sites
            if site in expected
        }
        answers = []
        for model in sorted(self._updates, key=lambda m: m.meta["client_name"]):
            site = model.meta["client_name"]
            left_out.pop(site, None)
            if failure := model.meta.get("failed"):
                left_out[site] = f"failed: {FAILURES.get(failure, FAILURES['error'])}"
            else:
                answers.append(model)
        self._answered = {model.meta["client_name"] for model in self._updates}
        updates = [(m.meta["client_name"], float(m.meta.get("weight", "nan")), m.params) for m in answers]
        by = self._by("up")
        good, bad = check(
            updates, {name: np.shape(a) for name, a in self._sent.items()}, WHOLE if by and self._last else by
        )
        left_out |= bad
        needed = min(self.quorum, len(self._targets))
        if len(good) < needed:
            reasons = "; ".join(f"site {site}: {why}" for site, why in sorted(left_out.items()))
            refuse(
                self.fl_ctx,
                f"{len(good)} of {len(self.sites)} sites have a usable update, {needed} are needed: {reasons}",
            )
        self.built.before_aggregate(
            self._family, self._sent, {m.meta["client_name"]: (m.metrics or {}).get("score") for m in answers}
        )
        difference = self.built.aggregate(good)
        if self._last and (beside := self.built.extra_arrays(self._sent, good)):
            save_file({name: np.ascontiguousarray(a) for name, a in beside.items()}, run_dir(self.fl_ctx) / BESIDE)
        self._write_round(
            {u.meta["client_name"]: u.metrics for u in answers if u.meta["client_name"] not in bad}, left_out
        )
        return FLModel(params=difference, params_type=ParamsType.DIFF, meta={})

    def _family(self) -> Any:
        """Build the trained model, for algorithms whose server half needs it. Imports MONAI."""
        return Block(**self._job["model"]["family"]).build(**Image(**self._job["params"]["image"]).context())

    def _write_round(self, sites: dict[str, Any], left_out: dict[str, str]) -> None:
        """Append a round to the round log. FLARE's own metrics file has no sites unless the aggregator is FLARE's."""
        seconds = round(time.monotonic() - self._began, 2)
        traffic = {site: counts for site, counts in self.wire.take().items() if site in self.sites}
        record = {"round": self._round, "sites": sites, "seconds": seconds, "traffic": traffic}
        record |= {"left_out": left_out} if left_out else {}
        record |= {"resumed": True} if self._resumed == record["round"] and self._resumed else {}
        self.records.append(record)
        round_log.append(run_dir(self.fl_ctx) / round_log.ROUNDS, record)

    def reset_stats(self) -> None:
        self._updates = []


def _weight(model: FLModel) -> float:
    weight = float(model.meta.get("weight", "nan"))
    return weight if np.isfinite(weight) else 0.0
