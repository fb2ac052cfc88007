"""MLflow runs of a pipeline: a run, in it one for each model with its params and headline metrics, details below.

A model's run is what one compares: which setting gave which result. Rounds and scores by site are in runs of their own
below it (train@vae, score@vae), so that they do not hide the few numbers that are compared.
"""

from __future__ import annotations

import concurrent.futures
import logging
import threading
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from fedsynth.data import outputs
from fedsynth.params import Params, names, study_of
from fedsynth.registry import naming, place, results, runs
from fedsynth.registry.headline import best
from fedsynth.registry.lineage import lineage
from fedsynth.registry.promotion import metrics
from fedsynth.registry.results import Results
from fedsynth.registry.runs import KIND, MODEL, PARENT, PIPELINE
from fedsynth.registry.tracked_values import round_metrics, score_metrics
from fedsynth.registry.versions import client_of, find, judge, register, registered, registered_name
from fedsynth.settings import experiment, masked
from fedsynth.training import weights
from fedsynth.training.history import bounded, left_out, resumed

__all__ = ["Tracker", "register", "registered"]

log = logging.getLogger(__name__)


class Tracker:
    """The MLflow run of one pipeline run, with a run for each model. It is thread-safe.

    It uses the client and the parent's id, because MLflow's fluent functions keep the active run per thread. `name`: of
    the run; default: the study, and what params.yaml says otherwise than at the run before. As a context manager it
    ends the run: FAILED on an error, KILLED on a signal or a cancelled task.
    """

    def __init__(self, root: Path, params: Params, name: str | None = None, tags: dict[str, str] | None = None):
        self.root, self.params = Path(root), params
        self.client, self.study = client_of(self.root), study_of(self.root)
        self.experiment_id = runs.experiment(self.client, self.root)
        self._children: dict[str, str] = {}
        self._results: dict[str, Results] = {}
        self._seen: dict[str, set[int]] = defaultdict(set)
        self._lock = threading.RLock()
        self._open = True
        asked = naming.of_pipeline(params)
        self.run_id = self._run([self.study], asked, lineage(self.root) | (tags or {}) | {KIND: PIPELINE}, name)

    def _run(self, words: list[str], params: dict[str, str], tags: dict[str, str], name: str | None = None) -> str:
        """Create a run that is called by `words` and what differs from the run before it of its kind."""
        same = {of: tags[of] for of in (KIND, "model") if of in tags}
        before = runs.newest(self.client, self.experiment_id, **same)
        change = naming.change(before.data.params, runs.as_logged(params)) if before else ""
        tags = tags | {"study": self.study} | ({"change": change} if change else {})
        run = self.client.create_run(self.experiment_id, run_name=name or " ".join(filter(None, [*words, change])))
        runs.log(self.client, run.info.run_id, tags, params)
        return run.info.run_id

    def model(self, model: str, tags: dict[str, str] | None = None) -> str:
        """Return the id of a model's run, "fedsynth vae rounds=20"; it is created at the first call."""
        with self._lock:
            if _of(model) not in self._children:
                own = {PARENT: self.run_id, KIND: MODEL, "model": model}
                own |= {"dvc.exp": experiment()} if experiment() else {}
                self._children[_of(model)] = self._run([self.study, model], naming.of_model(self.params, model), own)
        runs.log(self.client, self._children[_of(model)], tags)
        return self._children[_of(model)]

    def stage(self, name: str, model: str = "", tags: dict[str, str] | None = None) -> str:
        """Return the id of the run of a stage's details, "train@vae": below the model's run, or the pipeline's.

        The run is created at the first call.
        """
        title = _of(model, name)
        with self._lock:
            if title not in self._children:
                above = {PARENT: self.model(model) if model else self.run_id}
                run = self.client.create_run(self.experiment_id, tags=above, run_name=title)
                self._children[title] = run.info.run_id
                runs.log(self.client, run.info.run_id, {"stage": name, **({"model": model} if model else {})})
        runs.log(self.client, self._children[title], tags)
        return self._children[title]

    def ended(self, name: str, model: str = "", status: str = "FINISHED") -> None:
        """End the run of a stage's details, without `name` that of a model. Does nothing if it has no run."""
        if run_id := self._children.get(_of(model, name)):
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
        """Log rounds: all of them in the run of the training, the losses of all sites together in the model's, too."""
        by_site, above = self.stage("train", model), self.model(model)
        with self._lock:
            new = [r for r in rounds if r["round"] not in self._seen[model]]
            found = [(name, value, r["round"]) for r in new for name, value in round_metrics(r).items()]
            runs.log(self.client, by_site, metrics=found)
            runs.log(self.client, above, metrics=[of for of in found if of[0].startswith("loss/")])
            self._seen[model].update(r["round"] for r in new)

    def scores(self, stage: str, model: str, rows: list[dict[str, Any]]) -> None:
        """Log rows of reports/score/<model>.json or reports/reference.json as metrics of the run of a stage."""
        found = [(name, value, 0) for name, value in score_metrics(rows).items()]
        runs.log(self.client, self.stage(stage, model), metrics=found)
        self.ended(stage, model)

    def pictures(self, paths: Iterable[Path]) -> None:
        for path in paths:
            self.client.log_artifact(self.run_id, str(path), "pictures")

    def report(self, folder: Path) -> None:
        """Log the report's page and pictures, and the scores of the references."""
        self.client.log_artifacts(self.run_id, str(folder), "report")
        self.pictures(sorted(folder.glob("*.png")))
        self.scores("reference", "", outputs.read(self.root / "reports" / "reference.json", "reference")["rows"])

    def address(self, artifact: str) -> str:
        """Return where MLflow's page shows an artifact of this run, "" where no server does."""
        return place.page(self.root, f"experiments/{self.experiment_id}/runs/{self.run_id}/artifacts/{artifact}")

    def publish(self, model: str) -> str:
        """Log a model's results, register its weights and write the verdict. Returns the version.

        Weights that are already registered are not registered again, but the facts of their version are updated. Raises
        UserError if the scores belong to other weights.
        """
        found = results.of_model(self.root, self.params, model)
        run_id = self.log_results(found)
        number = find(self.root, model, weights.sha256(self.root / "models" / model / weights.FILE))
        number = number or register(self.root, model, run_id, found.facts)
        if found.facts:
            judge(self.params, self.root, model, number, found.facts)
        title = f"{registered_name(self.root, model)} version {number}"
        for run in (self.run_id, run_id):
            runs.log(self.client, run, {f"registered.{model}": title})
        return number

    def log_results(self, found: Results) -> str:
        """Log the results of a model, and return the id of the run that holds them.

        Where an earlier run holds the same, that one is returned and none is made, unless the model was trained in this
        one.
        """
        model = found.model
        self._results[model] = found
        before = found.run(self.client, self.experiment_id)
        if before and _of(model) not in self._children:
            return before
        run_id = self.model(model)
        if before != run_id:
            self._write(run_id, found)
            # last, so that results that are half there are logged again
            runs.log(self.client, run_id, {"result": found.digest})
            self.ended("", model)
        return run_id

    def _write(self, run_id: str, found: Results) -> None:
        """Write headline, data sets, rounds and scores of a model to its run and those below it."""
        model, digest = found.model, {"weights_sha256": found.about["weights_sha256"]}
        tags = digest | {"flare.job_id": str(found.about["job_id"])}
        runs.log(self.client, run_id, tags, metrics=[(name, of, 0) for name, of in found.headline.items()])
        runs.log_data(self.client, run_id, found.about["digests"])
        self.history(model, found.history)
        self.ended("train", model)
        if found.facts and found.rows is not None:
            numbers = [(name, of, 0) for name, of in metrics(found.facts).items()]
            runs.log(self.client, self.stage("score", model, digest), metrics=numbers)
            self.scores("score", model, found.rows)

    def close(self, status: str = "FINISHED") -> None:
        """End the run (FINISHED, FAILED or KILLED) and its open children. A second call does nothing."""
        with self._lock:
            if not self._open:
                return
            self._open = False
        tags = lineage(self.root)  # the run has written dvc.lock and the data's digests
        if model := best({model: of.headline for model, of in self._results.items()}):
            tags["best"] = model
            numbers = [(name, of, 0) for name, of in self._results[model].headline.items()]
            runs.log(self.client, self.run_id, metrics=numbers)
            runs.log_data(self.client, self.run_id, self._results[model].about["digests"])
        runs.log(self.client, self.run_id, tags)
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


def _of(model: str, stage: str = "") -> str:
    """Return the title of a run: "train@vae", "reference", and "@vae" for a model's own."""
    return f"{stage}@{model}" if model else stage
