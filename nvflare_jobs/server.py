"""The server's components of our jobs. They work on numpy arrays: the server needs neither torch nor MONAI, which saves its start-up."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.abstract.model import ModelLearnable, ModelLearnableKey, make_model_learnable
from nvflare.app_common.abstract.model_persistor import ModelPersistor
from nvflare.app_common.aggregators.model_aggregator import ModelAggregator
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.app_common.workflows.model_controller import ModelController
from nvflare.widgets.info_collector import InfoCollector
from safetensors.numpy import load_file, save_file

from fedsynth.coding import WHOLE, Downlink, decode
from fedsynth.compression import Arrays as Coded
from fedsynth.compression import CodingError, Compression
from fedsynth.failures import FAILURES
from fedsynth.params import Block, Image
from nvflare_jobs import keys, rounds
from nvflare_jobs.kept import BESIDE, GLOBAL, Kept
from nvflare_jobs.wire import Wire

ENCRYPTED, OPEN = "encrypted", "open"  # as in nvflare_jobs/site.py
ANSWERS, PROGRESS = "answers.json", "fedsynth"
SHOWN = 50  # of the rounds, in one look at the progress of a job: those before have been seen, or come with the result


class Progress:
    """Answers FLARE's question for a job's statistics: rounds and answers so far, which a centre with the right `view` may see live."""

    def progress(self) -> dict[str, Any]:
        raise NotImplementedError

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        super().handle_event(event_type, fl_ctx)  # type: ignore[misc]
        if event_type == InfoCollector.EVENT_TYPE_GET_STATS:
            collector = fl_ctx.get_prop(InfoCollector.CTX_KEY_STATS_COLLECTOR, None)
            if collector is not None:
                collector.set_info(PROGRESS, self.progress())


class Rounds(Progress, FedAvg):
    """FLARE's FedAvg controller, whose rounds go on with `quorum` of `sites` where the others let it wait for more than `grace_s` seconds.

    Both argument lists are spelt out so that FLARE's job export sees the base class's arguments. `num_rounds` are those of the whole
    training: it goes on after the round that the persistor found kept.
    """

    def __init__(self, sites: list[str], quorum: int, grace_s: int, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.sites, self.quorum, self.grace_s = sites, quorum, grace_s

    def run(self) -> None:
        self.aggregator.wire.watch(self.engine)
        super().run()
        if self.persistor.done == self.start_round + self.num_rounds:
            rounds.complete(run_dir(self.fl_ctx))
            self.persistor.kept.forget()

    def load_model(self) -> FLModel:
        model = super().load_model()
        self.start_round = self.persistor.done
        self.num_rounds -= self.persistor.done
        if self.persistor.done:
            self.aggregator.resume(self.persistor.done)
        return model

    def sample_clients(self, num_clients: int | None = None) -> list[str]:
        return self.aggregator.built.turn(present(self, self.sites, self.quorum), self.current_round)

    def send_model(self, task_name: str = "train", data: FLModel | None = None, targets: list[str] | None = None,
                   min_responses: int | None = None, timeout: int = 0,
                   callback: Callable[[FLModel], None] | None = None) -> None:  # fmt: skip
        last, job = data.current_round == self.start_round + self.num_rounds - 1, question(self.fl_ctx)
        out = copy.copy(data)
        arrays = {name: data.params[name] for name in self.aggregator.built.sends(list(data.params), last)}
        out.params, have, about = self.aggregator.coded(arrays, data.current_round, targets)
        # a site that has the message before has the question, too, and knows it by heart
        out.meta = (data.meta or {}) | about | ({} if "since" in about.get("coding", {}) else {"job": job})
        self.aggregator.begin(data.current_round, have, targets, job, last)
        self.broadcast_model(out, task_name, targets, min_responses=min(self.quorum, len(targets)), timeout=timeout,
                             wait_time_after_min_received=self.grace_s, blocking=False, callback=callback)  # fmt: skip

    def _get_aggregated_result(self) -> FLModel:
        if self.aggregator.encryption:
            self._open()
        return super()._get_aggregated_result()

    def _open(self) -> None:
        """Add what the server cannot read, and have a site open the sum: one after the other is asked until one does."""
        sites, total = self.aggregator.total()
        for site in sites:
            opened: list[FLModel] = []
            model = FLModel(params={ENCRYPTED: np.frombuffer(total, np.uint8)}, current_round=self.current_round)
            model.meta = {"job": question(self.fl_ctx), OPEN: sites}
            self.broadcast_model(model, self.task_name, [site], min_responses=1, timeout=max(self.grace_s, 1), blocking=False,
                                 callback=opened.append)  # fmt: skip
            while self.get_num_standing_tasks() and not self.abort_signal.triggered:
                time.sleep(self._task_check_period)
            if opened and ENCRYPTED in opened[0].params:
                return self.aggregator.opened(sites, np.asarray(opened[0].params[ENCRYPTED], np.float64))
        refuse(self.fl_ctx, f"no site has opened the sum of round {self.current_round + 1}; their logs have the reason")

    def progress(self) -> dict[str, Any]:
        return {"rounds": self.aggregator.records[-SHOWN:]}


class Arrays(ModelPersistor):
    """The global model as a safetensors file: `initial` of the job, or what an earlier job of the same training (`key`) has come to."""

    def __init__(self, key: str = "", initial: str = "initial.safetensors"):
        super().__init__()
        self.key, self.initial = key, initial
        self.done = 0  # rounds of this training, in earlier jobs and in this one

    def load_model(self, fl_ctx: FLContext) -> ModelLearnable:
        self.kept = Kept(fl_ctx, self.key)
        self.done = self.kept.restore(run_dir(fl_ctx))
        path = run_dir(fl_ctx) / GLOBAL if self.done else config_dir(fl_ctx) / self.initial
        return make_model_learnable(weights=load_file(path), meta_props={})

    def save_model(self, model: ModelLearnable, fl_ctx: FLContext) -> None:
        arrays = {name: np.ascontiguousarray(a) for name, a in model[ModelLearnableKey.WEIGHTS].items()}
        path, number = run_dir(fl_ctx) / GLOBAL, fl_ctx.get_prop("current_round")
        save_file(arrays, path.with_suffix(".part"), metadata={"round": str(number)})
        path.with_suffix(".part").replace(path)
        self.kept.save(run_dir(fl_ctx))
        self.done = number + 1


class Aggregate(ModelAggregator):
    """An algorithm's server half (fedsynth/algorithms) as a FLARE aggregator; leaves out updates that are not finite or do not fit.

    `algorithm` is the block of params.yaml as JSON text: FLARE would build a mapping with a class_path before it reached us.
    With `encryption` (a block as text, or "") `total` and `opened` put the sites' mean in the place of what each of them has sent.
    A round counts with `quorum` of `sites`: where one fails, FLARE goes on with the others' for as long as it takes to end the job, and a
    round with fewer would become the global model. `compression`: models.<name>.compression, as JSON text, or nothing.
    """

    def __init__(self, algorithm: str, sites: list[str], quorum: int, encryption: str = "", compression: str = ""):
        super().__init__()
        self.algorithm, self.sites, self.quorum, self.encryption, self.compression = algorithm, sites, quorum, encryption, compression
        self._answered: set[str] = set()  # in the round before: these sites have what was sent in it
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

    def coded(self, arrays: dict[str, np.ndarray], number: int, targets: list[str]) -> tuple[Coded, Coded, dict[str, Any]]:
        """What goes out in round `number`, the arrays that the sites then have, and what they must be told of it."""
        if (by := self._by("down")) is None:
            return arrays, arrays, {}
        self._downlink = self._downlink or Downlink(by)
        sent, about = self._downlink.encode(arrays, number, follows=set(targets) <= self._answered)
        return sent, self._downlink.have, {"coding": about}

    def begin(self, number: int, sent: dict[str, np.ndarray], targets: list[str], job: dict[str, Any], last: bool) -> None:
        """A round begins, with what is `sent` to `targets` for the question `job`."""
        self._began, self._round, self._sent, self._targets, self._job = time.monotonic(), number, sent, targets, job
        self._last = last

    def resume(self, done: int) -> None:
        """Earlier jobs have done so many rounds; they are in the run's folder."""
        self._resumed, self.records = done, rounds.read(run_dir(self.fl_ctx) / rounds.ROUNDS)

    def accept_model(self, model: FLModel) -> None:
        self._updates.append(model)

    def total(self) -> tuple[list[str], bytes]:
        """The sites whose encrypted differences can be added, and their sum. Raises RuntimeError where they are too few for one."""
        found = {m.meta["client_name"]: m.params[ENCRYPTED].tobytes() for m in self._updates if ENCRYPTED in m.params and _weight(m) > 0}
        enough = max(self.quorum, 2)
        if len(found) < enough:
            words = {m.meta["client_name"]: FAILURES.get(m.meta["failed"], FAILURES["error"]) for m in self._updates if "failed" in m.meta}
            reasons = "".join(f"; site {site}: {why}" for site, why in sorted(words.items()))
            refuse(self.fl_ctx, f"{len(found)} of {len(self.sites)} sites have an encrypted update, {enough} are needed for a sum{reasons}")
        return sorted(found), self._cipher().add([found[site] for site in sorted(found)], keys.read(keys.PUBLIC))

    def opened(self, sites: list[str], total: np.ndarray) -> None:
        """The mean of these sites stands for what each has sent: of like differences every mean is that one."""
        equal = self.built.weighting == "equal"
        of = [m for m in self._updates if m.meta["client_name"] in sites]
        weight = sum(1.0 if equal else _weight(m) for m in of)
        mean = self._cipher().shaped(total / weight, {name: np.shape(a) for name, a in self._sent.items()})
        for model in of:
            model.params = mean

    def _cipher(self) -> Any:
        return Block(**json.loads(self.encryption)).build()

    def aggregate_model(self) -> FLModel:
        expected = set(self._targets) | set(self.built.turn(self.sites, self._round))
        left_out = {site: rounds.LATE if site in self._targets else rounds.ABSENT for site in self.sites if site in expected}
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
        good, bad = check(updates, {name: np.shape(a) for name, a in self._sent.items()}, WHOLE if by and self._last else by)
        left_out |= bad
        needed = min(self.quorum, len(self._targets))
        if len(good) < needed:
            reasons = "; ".join(f"site {site}: {why}" for site, why in sorted(left_out.items()))
            refuse(self.fl_ctx, f"{len(good)} of {len(self.sites)} sites have a usable update, {needed} are needed: {reasons}")
        self.built.know(self._family, self._sent, {m.meta["client_name"]: (m.metrics or {}).get("score") for m in answers})
        difference = self.built.aggregate(good)
        if self._last and (beside := self.built.beside(self._sent, good)):
            save_file({name: np.ascontiguousarray(a) for name, a in beside.items()}, run_dir(self.fl_ctx) / BESIDE)
        self._write_round({u.meta["client_name"]: u.metrics for u in answers if u.meta["client_name"] not in bad}, left_out)
        return FLModel(params=difference, params_type=ParamsType.DIFF, meta={})

    def _family(self) -> Any:
        """The model that is trained, for an algorithm that looks at it; it takes MONAI's import."""
        return Block(**self._job["model"]["family"]).build(**Image(**self._job["params"]["image"]).context())

    def _write_round(self, sites: dict[str, Any], left_out: dict[str, str]) -> None:
        """FLARE's own metrics file leaves the sites out where the aggregator is not FLARE's."""
        seconds = round(time.monotonic() - self._began, 2)
        traffic = {site: counts for site, counts in self.wire.take().items() if site in self.sites}
        record = {"round": self._round, "sites": sites, "seconds": seconds, "traffic": traffic}
        record |= {"left_out": left_out} if left_out else {}
        record |= {"resumed": True} if self._resumed == record["round"] and self._resumed else {}
        self.records.append(record)
        rounds.append(run_dir(self.fl_ctx) / rounds.ROUNDS, record)

    def reset_stats(self) -> None:
        self._updates = []


Update = tuple[str, float, dict[str, np.ndarray]]


def _weight(model: FLModel) -> float:
    weight = float(model.meta.get("weight", "nan"))
    return weight if np.isfinite(weight) else 0.0


def check(updates: list[Update], shapes: dict[str, tuple[int, ...]], by: Compression | None = None) -> tuple[list[Update], dict[str, str]]:
    """The updates that fit the global parameters, decoded where they were coded `by` something, and for each other site why its update is
    left out."""
    good, bad = [], {}
    for site, weight, arrays in updates:
        try:
            difference = arrays if by is None else decode(by, arrays, shapes)
        except CodingError as error:
            bad[site] = f"sent what cannot be decoded: {error}; does it run the same version?"
            continue
        if why := _unusable(weight, difference, shapes):
            bad[site] = why
        else:
            good.append((site, weight, difference))
    return good, bad


def _unusable(weight: float, difference: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> str:
    if {name: tuple(np.shape(a)) for name, a in difference.items()} != shapes:
        return "sent other parameters or shapes than the centre did; does it run the same version?"
    if bad := [name for name, a in difference.items() if not np.issubdtype(a.dtype, np.floating)]:
        return f"sent {bad[0]} as {difference[bad[0]].dtype}, which cannot be averaged"
    if bad := [name for name, a in difference.items() if not np.isfinite(a).all()]:
        return f"sent NaN or Inf in {bad[0]}; lower the learning rate or look at that site's data"
    if not (weight > 0 and np.isfinite(weight)):
        return f"sent the weight {weight}"
    return ""


class Ask(Progress, ModelController):
    """Ask every site one question and keep the answers: one task, with the arrays of `payload` as its data.

    The answers of `quorum` sites are enough where the others let it wait for more than `grace_s` seconds.
    """

    def __init__(self, sites: list[str], quorum: int, grace_s: int, payload: str = "payload.safetensors"):
        super().__init__(persistor_id="", task_check_period=0.1)
        self.sites, self.quorum, self.grace_s = sites, quorum, grace_s
        self.payload = payload
        self.answers: dict[str, dict[str, Any]] = {}

    def run(self) -> None:
        targets = present(self, self.sites, self.quorum)
        model = FLModel(params=load_file(config_dir(self.fl_ctx) / self.payload), current_round=0, total_rounds=1)
        model.meta = {"job": question(self.fl_ctx)}
        self.broadcast_model(model, targets=targets, min_responses=min(self.quorum, len(targets)),
                             wait_time_after_min_received=self.grace_s, blocking=False, callback=self._take)  # fmt: skip
        while self.get_num_standing_tasks() and not self.abort_signal.triggered:
            time.sleep(self._task_check_period)
        if self.abort_signal.triggered:
            return
        good = [site for site, answer in self.answers.items() if "answer" in answer]
        for site in self.sites:
            silent = "no answer within the time of grace" if site in targets else "not connected"
            self.answers.setdefault(site, {"failed": silent})
        if len(good) < self.quorum:
            reasons = [f"site {site}: {a['failed']}" for site, a in sorted(self.answers.items()) if "failed" in a]
            refuse(self.fl_ctx, f"{len(good)} of {len(self.sites)} sites answered, {self.quorum} are needed: {'; '.join(reasons)}")
        (run_dir(self.fl_ctx) / ANSWERS).write_text(json.dumps(dict(sorted(self.answers.items()))))
        rounds.complete(run_dir(self.fl_ctx))

    def _take(self, result: FLModel) -> None:
        site, failure = result.meta["client_name"], result.meta.get("failed")
        words = {"failed": FAILURES.get(failure, FAILURES["error"])} if failure else {"answer": result.meta["answer"]}
        self.answers[site] = words

    def progress(self) -> dict[str, Any]:
        return {"answered": sorted(self.answers)}


def present(controller: Any, sites: list[str], quorum: int) -> list[str]:
    """Those of `sites` that are connected now. Raises RuntimeError naming the others where they are fewer than `quorum`."""
    connected = {client.name for client in controller.engine.get_clients()}
    found = [site for site in sites if site in connected]
    if len(found) < quorum:
        missing = ", ".join(site for site in sites if site not in connected)
        refuse(controller.fl_ctx, f"{len(found)} of {len(sites)} sites are connected, {quorum} are needed; not there: {missing}")
    return found


def refuse(fl_ctx: FLContext, why: str) -> None:
    """End the job for a reason that the centre finds in its result. Raises RuntimeError."""
    rounds.refuse(run_dir(fl_ctx), why)
    raise RuntimeError(why)


def question(fl_ctx: FLContext) -> dict[str, Any]:
    """What the job is about; it goes to the sites with the task."""
    found: dict[str, Any] = json.loads((config_dir(fl_ctx) / "job.json").read_text())
    return found


def run_dir(fl_ctx: FLContext) -> Path:
    return Path(fl_ctx.get_engine().get_workspace().get_run_dir(fl_ctx.get_job_id()))


def config_dir(fl_ctx: FLContext) -> Path:
    return Path(fl_ctx.get_engine().get_workspace().get_app_config_dir(fl_ctx.get_job_id()))
