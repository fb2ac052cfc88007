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
from fedsynth.params import Block, Image, Training
from fedsynth.training.coding import WHOLE, Downlink
from fedsynth.training.frozen import marked
from nvflare_jobs.server import round_log, updates
from nvflare_jobs.server.run import refuse, run_dir
from nvflare_jobs.server.saved import BESIDE
from nvflare_jobs.server.sums import Sums
from nvflare_jobs.server.traffic import Wire
from nvflare_jobs.server.updates import Answer, Arrays, Update


class Aggregate(ModelAggregator):
    """Runs the server half of an algorithm (fedsynth/algorithms) as a FLARE aggregator.

    A site whose answer cannot be used is left out of the round, with the reason in the round's record; what it sends
    ends no job. A round fails with fewer usable updates than `quorum`: while FLARE ends a job after a failure it keeps
    aggregating, and an incomplete round would become the global model.

    `algorithm`: the block of params.yaml as JSON text; FLARE would instantiate a mapping with a class_path itself.
    `encryption`, `compression`, `robust`: those of models.<name> as JSON text, or "". With encryption `total` and
    `opened` replace each site's update by the mean. `images`: [site, number] of training images as JSON text, as
    validation has shown them; no site weighs more than it has. (FLARE takes a text with braces for an expression.)
    `players`: whose losses a site may send; None: any plain name. `averaged`: the rounds in which sites send averaged
    (EMA) weights. `frozen`: names of parameters that are not trained.
    """

    def __init__(self, algorithm: str, sites: list[str], quorum: int, encryption: str = "", compression: str = "",
                 robust: str = "", images: str = "", players: list[str] | None = None,
                 averaged: list[int] | None = None, frozen: list[str] | None = None):  # fmt: skip
        super().__init__()
        self.algorithm, self.sites, self.quorum = algorithm, sites, quorum
        self.encryption, self.compression, self.robust, self.images = encryption, compression, robust, images
        self.players, self.averaged, self.frozen = players, averaged, frozen
        self._have_frozen: set[str] = set()  # sites that have answered in this job
        self._frozen: Arrays = {}
        self._answered: set[str] = set()  # sites that answered the previous round, so they hold its parameters
        self._downlink: Downlink | None = None
        self.records: list[dict[str, Any]] = []
        self.wire = Wire()
        self._built: Any = None
        self._resumed = 0
        self._began = time.monotonic()
        self._sent: Arrays = {}
        self._targets: list[str] = []
        self._job: dict[str, Any] = {}
        self._round, self._last = 0, False
        self.reset_stats()

    @property
    def built(self) -> Any:
        if self._built is None:
            self._built = Block(**json.loads(self.algorithm)).build()
            self._built.rule = Block(**json.loads(self.robust)).build() if self.robust else None
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

    def parted(self, arrays: Arrays) -> tuple[Arrays, Arrays]:
        """Return of the global parameters those that are trained, and the others as they are sent."""
        trained, frozen = marked(arrays, self.frozen or ())
        self._frozen = {name: arrays[name] for name in self.frozen or () if name in arrays}
        return trained, frozen

    def lack_frozen(self, targets: list[str]) -> bool:
        """Return whether one of `targets` may not have what is frozen: it has not answered in this job."""
        return not set(targets) <= self._have_frozen

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
        self._models.append(model)

    def unreadable(self, site: str) -> None:
        """Record that a site answered with what FLARE cannot read."""
        self._bad[site] = "sent what is no update; does it run the same version?"

    @property
    def heard(self) -> set[str]:
        """The sites that have answered in this round, whatever they said."""
        return {model.meta["client_name"] for model in self._models} | self._bad.keys()

    def total(self) -> tuple[list[str], bytes]:
        """Return the sites whose encrypted differences can be added, and the encrypted sum.

        Raises RuntimeError where there are fewer than `quorum`, or fewer than two.
        """
        sums, answers = Sums(self.encryption), self._answers()
        secrets: dict[str, bytes] = {}
        for answer in answers:
            try:
                if answer.weight > (most := self._most(answer.site)):  # the weight is in what was sent: no taking back
                    raise updates.Unusable(
                        f"sent the weight {answer.weight:g}, and validation has shown {most:g} images"
                    )
                secrets[answer.site] = sums.fitting(answer, self._shapes)
            except updates.Unusable as error:
                self._bad[answer.site] = str(error)
        self._enough(list(secrets), max(self.quorum, 2), "an encrypted update", " for a sum")
        return sorted(secrets), sums.add([secrets[site] for site in sorted(secrets)])

    def opened(self, sites: list[str], total: Any) -> None:
        """Take the mean of the sum that a site has decrypted, `total`, for the update of each of `sites`.

        Any weighted mean of these equal updates is again that mean. Raises Unusable where it can be no sum.
        """
        equal = self.built.weighting == "equal"
        weights = [1.0 if equal else answer.weight for answer in self._answers() if answer.site in sites]
        mean = Sums(self.encryption).mean(total, sum(weights), self._shapes)
        self._mean = dict.fromkeys(sites, mean)

    def misled(self, site: str, why: str) -> None:
        """Record that a site has opened a sum to what can be none; another one is asked."""
        self._bounded.setdefault(site, []).append(f"{why}, and another site was asked")

    def aggregate_model(self) -> FLModel:
        answers = self._answers()
        self._answered = self.heard
        self._have_frozen |= self.heard
        good = self._usable(answers)
        least = self.built.rule.least if self.built.rule else 1
        self._enough([site for site, _, _ in good], max(min(self.quorum, len(self._targets)), least), "a usable update")
        used = {site: weight for site, weight, _ in good}
        numbers = {answer.site: answer.numbers for answer in answers if answer.site in used}
        scores = {site: of.get("score") for site, of in numbers.items()}
        averaged = self._round in (self.averaged or ())
        self.built.before_aggregate(self._family, self._sent, scores, self._steps(used), averaged)
        difference = self.built.aggregate(good)
        self._finite(difference, good)
        if self._last and (beside := self.built.extra_arrays(self._sent, good)):
            save_file({name: np.ascontiguousarray(a) for name, a in beside.items()}, run_dir(self.fl_ctx) / BESIDE)
        self._write_round({site: of | {"weight": used[site]} for site, of in numbers.items()})
        return FLModel(params=difference, params_type=ParamsType.DIFF, meta={})

    def _steps(self, images: dict[str, float]) -> dict[str, int]:
        """Return the sites' optimiser steps in a round, as they follow from their numbers of images."""
        plan = self._job.get("model", {}).get("training")
        training = Training.model_validate(plan) if plan else None
        return {site: training.steps(n) for site, n in images.items()} if training else {}

    def _answers(self) -> list[Answer]:
        """Return the answers that can be read; the other sites are in `_bad`, with the reason."""
        answers, bad = updates.read(self._models, self._targets, self.players)
        self._bad |= bad
        return [answer for answer in answers if answer.site not in self._bad]

    def _usable(self, answers: list[Answer]) -> list[Update]:
        by = self._by("up")
        found = []
        for answer in answers:
            weight, most = answer.weight, self._most(answer.site)
            if weight > most:
                self._bounded.setdefault(answer.site, []).append(
                    f"sent the weight {weight:g}, which counts as the {most:g} images that validation has shown"
                )
            found.append((answer.site, min(weight, most), self._mean.get(answer.site, answer.arrays)))
        good, bad = updates.check(found, self._shapes, WHOLE if by and self._last else by)
        self._bad |= bad
        return good

    def _most(self, site: str) -> float:
        """Return the largest weight that a site can have."""
        return float(max(1, dict(json.loads(self.images or "[]")).get(site, updates.MOST_IMAGES)))

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: np.shape(a) for name, a in self._sent.items()}

    def _left_out(self) -> dict[str, str]:
        """Return why sites are not in this round: what was wrong with their answer, or that there was none."""
        expected = {*self._targets, *self.built.sites_of_round(self.sites, self._round)} - self.heard
        silent = {site: round_log.LATE if site in self._targets else round_log.ABSENT for site in expected}
        return dict(sorted((silent | self._bad).items()))

    def _enough(self, sites: list[str], needed: int, what: str, why: str = "") -> None:
        """End the job where fewer than `needed` sites have `what`. Raises RuntimeError with each site's reason."""
        if len(sites) < needed:
            reasons = "; ".join(f"site {site}: {why}" for site, why in self._left_out().items())
            have = f"{len(sites)} of {len(self.sites)} sites have {what}, {needed} are needed{why}"
            refuse(self.fl_ctx, f"{have}: {reasons}" if reasons else have)

    def _finite(self, difference: Arrays, good: list[Update]) -> None:
        """End the job where the round would make the global parameters infinite. Raises RuntimeError.

        No update can do that alone (updates.LARGEST); a server's optimizer or very many rounds could.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            bad = [name for name, a in difference.items() if not np.isfinite(self._sent.get(name, 0) + a).all()]
        if bad:
            largest = {site: max(float(np.abs(a).max(initial=0)) for a in d.values()) for site, _, d in good}
            sizes = ", ".join(f"{site} {n:.2g}" for site, n in sorted(largest.items()))
            refuse(self.fl_ctx, f"the round makes {bad[0]} infinite; the largest number of each site's update: {sizes}")

    def _family(self) -> Any:
        """Build the trained model, for algorithms whose server half needs it. Imports MONAI."""
        family = Block(**self._job["model"]["family"]).build(**Image(**self._job["params"]["image"]).context())
        if self._frozen:
            import torch

            family.load_state_dict({n: torch.from_numpy(np.array(a)) for n, a in self._frozen.items()}, strict=False)
        return family

    def _write_round(self, sites: dict[str, Any]) -> None:
        """Append a round to the round log. FLARE's own metrics file has no sites unless the aggregator is FLARE's."""
        seconds = round(time.monotonic() - self._began, 2)
        traffic = {site: counts for site, counts in self.wire.take().items() if site in self.sites}
        record = {"round": self._round, "sites": sites, "seconds": seconds, "traffic": traffic}
        said = [*self._bounded.items(), *self.built.said.items()]
        bounded = {
            site: "; ".join(why for of, words in said if of == site for why in words) for site, _ in sorted(said)
        }
        record |= {name: of for name, of in (("left_out", self._left_out()), ("bounded", bounded)) if of}
        record |= {"resumed": True} if self._resumed == record["round"] and self._resumed else {}
        self.records.append(record)
        round_log.append(run_dir(self.fl_ctx) / round_log.ROUNDS, record)

    def reset_stats(self) -> None:
        self._models: list[FLModel] = []
        self._bad: dict[str, str] = {}  # site -> why it is not in this round although it answered
        self._bounded: dict[str, list[str]] = {}  # site -> what was done to its update
        self._mean: dict[str, Arrays] = {}
