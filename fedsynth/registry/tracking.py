"""MLflow runs of a pipeline: a parent run, a child run for each stage and model, rounds, scores, pictures, lineage."""

from __future__ import annotations

import concurrent.futures
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from fedsynth.data import outputs
from fedsynth.params import Params, names
from fedsynth.registry.lineage import key, lineage
from fedsynth.registry.promotion import metrics
from fedsynth.registry.tracked_values import flatten, round_metrics, score_metrics
from fedsynth.registry.versions import client_of, find, judge, register, registered, registered_name
from fedsynth.settings import home, masked, tracking_uri
from fedsynth.training import weights
from fedsynth.training.history import bounded, left_out, resumed
from fedsynth.worth.facts import facts

__all__ = ["Tracker", "register", "registered"]

log = logging.getLogger(__name__)


class Tracker:
    """The MLflow run of one pipeline run, with a child run for each stage and model. It is thread-safe.

    It uses the client and the parent's id, because MLflow's fluent functions keep the active run per thread. `name`: of
    the run, default the current time. As a context manager it ends the run: FAILED on an error, KILLED on a signal or a
    cancelled task.
    """

    def __init__(
        self,
        root: Path,
        params: Params,
        experiment: str = "fedsynth",
        name: str | None = None,
        tags: dict[str, str] | None = None,
    ):
        self.root, self.params = Path(root), params
        self.client = client_of(self.root)
        self.experiment_id = self._experiment(experiment)
        self._children: dict[str, str] = {}
        self._seen: dict[str, set[int]] = defaultdict(set)
        self._lock = threading.RLock()
        run = self.client.create_run(self.experiment_id, run_name=name or time.strftime("%Y-%m-%d %H:%M:%S"))
        self.run_id: str = run.info.run_id
        self._open = True
        self._log(
            self.run_id, tags={**lineage(self.root), **(tags or {})}, params=flatten(params.model_dump(mode="json"))
        )

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        # A server has its own artifact store; with SQLite, MLflow would write artifacts to the working directory.
        place = (home(self.root) / "mlartifacts").as_uri() if tracking_uri(self.root).startswith("sqlite:") else None
        if (found := self.client.get_experiment_by_name(name)) is None:
            try:
                return self.client.create_experiment(name, artifact_location=place)
            except MlflowException:  # another process may have created it meanwhile
                if (found := self.client.get_experiment_by_name(name)) is None:
                    raise
        return found.experiment_id

    def stage(self, name: str, model: str = "", tags: dict[str, str] | None = None) -> str:
        """Return the run id of the child run of a stage (and model), "train@vae".

        The run is created at the first call.
        """
        title = f"{name}@{model}" if model else name
        with self._lock:
            if title not in self._children:
                run = self.client.create_run(
                    self.experiment_id, tags={"mlflow.parentRunId": self.run_id}, run_name=title
                )
                self._children[title] = run.info.run_id
                self._log(run.info.run_id, {"stage": name, **({"model": model} if model else {})})
        self._log(self._children[title], tags or {})
        return self._children[title]

    def ended(self, name: str, model: str = "", status: str = "FINISHED") -> None:
        """End the child run of a stage. Does nothing if the stage has no run."""
        if run_id := self._children.get(f"{name}@{model}" if model else name):
            self.client.set_terminated(run_id, status)

    def round(self, model: str, event: dict[str, Any]) -> None:
        """Log one round while the training runs; a round that was logged before is ignored.

        `event`: `{"round": 0, "sites": {site: {"loss/<player>": 0.5, …, "weight": 108}}}`. An error of the tracking
        server is logged as a warning, so that it does not end the training; `history` logs the missing rounds at the
        end.
        """
        from mlflow.exceptions import MlflowException

        try:
            self._rounds(model, [event])
        except MlflowException as error:
            said = masked(str(error))
            log.warning(
                "round %s of %s did not reach MLflow, the end of the run tries again: %s", event["round"], model, said
            )

    def history(self, model: str, history: dict[str, Any]) -> None:
        """Log the job's id and all rounds of models/<model>/history.json that were not logged live."""
        tags = {"flare.job_id": str(history["job_id"])} | {
            f"{what}.{names.key(site)}": why
            for what, of in (("left_out", left_out(history)), ("bounded", bounded(history)))
            for site, why in of.items()
        }
        self.stage("train", model, tags | ({"resumed": goes_on} if (goes_on := resumed(history)) else {}))
        self._rounds(model, history["rounds"])

    def _rounds(self, model: str, rounds: list[dict[str, Any]]) -> None:
        run_id = self.stage("train", model)
        with self._lock:
            new = [r for r in rounds if r["round"] not in self._seen[model]]
            self._log(
                run_id, metrics=[(name, value, r["round"]) for r in new for name, value in round_metrics(r).items()]
            )
            self._seen[model].update(r["round"] for r in new)

    def scores(self, stage: str, model: str, rows: list[dict[str, Any]]) -> None:
        """Log rows of reports/score/<model>.json or reports/reference.json as metrics of a child run."""
        self._log(self.stage(stage, model), metrics=[(name, value, 0) for name, value in score_metrics(rows).items()])
        self.ended(stage, model)

    def pictures(self, paths: Iterable[Path]) -> None:
        for path in paths:
            self.client.log_artifact(self.run_id, str(path), "pictures")

    def report(self, folder: Path) -> None:
        """Log the report's page and pictures, and the scores of the references."""
        self.client.log_artifacts(self.run_id, str(folder), "report")
        self.pictures(sorted(folder.glob("*.png")))
        self.scores("reference", "", outputs.read(self.root / "reports" / "reference.json", "reference")["rows"])

    def publish(self, model: str) -> str:
        """Log a model's rounds and scores, register its weights and write the verdict. Returns the version.

        Weights that are already registered are not registered again, but the facts of their version are updated. Raises
        UserError if the scores belong to other weights.
        """
        folder, known = self.root / "models" / model, None
        found = find(self.client, model, weights.sha256(folder / weights.FILE))
        if found is None or f"train@{model}" in self._children:
            self.history(model, outputs.read(folder / "history.json", f"train@{model}"))
            self.ended("train", model)
        scores = self.root / "reports" / "score" / f"{model}.json"
        if scores.is_file():
            known = facts(self.params, self.root, model)
            self._log(self.stage("score", model), metrics=[(name, value, 0) for name, value in metrics(known).items()])
            self.scores("score", model, outputs.read(scores, f"score@{model}")["rows"])
        number = found or register(self.root, model, self.stage("train", model), known)
        if known:
            judge(self.params, self.root, model, number, known)
        self._log(self.run_id, {f"registered.{model}": f"{registered_name(model)} version {number}"})
        return number

    def close(self, status: str = "FINISHED") -> None:
        """End the run (FINISHED, FAILED or KILLED) and its open children. A second call does nothing."""
        with self._lock:
            if not self._open:
                return
            self._open = False
        self._log(self.run_id, lineage(self.root))  # the run has written dvc.lock and the data's digests
        for run_id in [*self._children.values(), self.run_id]:
            if self.client.get_run(run_id).info.status == "RUNNING":
                self.client.set_terminated(run_id, status)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # signals, Ctrl-C and Prefect's cancellation are not Exceptions
        killed = isinstance(error, concurrent.futures.CancelledError) or not isinstance(error, Exception)
        self.close("FINISHED" if error is None else "KILLED" if killed else "FAILED")

    def _log(self, run_id: str, tags: dict[str, str] | None = None, params: dict[str, str] | None = None,
             metrics: Iterable[tuple[str, float, int]] = ()) -> None:  # fmt: skip
        """Log tags, params and metrics (name, value, step).

        Requests are split to the sizes that a tracking server accepts, and passwords in addresses are masked.
        """
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        for t in _chunks([RunTag(key(name), masked(value)) for name, value in (tags or {}).items()], 100):
            self.client.log_batch(run_id, tags=t)
        for p in _chunks([Param(key(name), masked(value)[:6000]) for name, value in (params or {}).items()], 100):
            self.client.log_batch(run_id, params=p)
        for m in _chunks([Metric(key(name), float(value), now, step) for name, value, step in metrics], 1000):
            self.client.log_batch(run_id, metrics=m)


def _chunks(items: list, size: int) -> Iterator[list]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
