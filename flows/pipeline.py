"""The main job: every stage of dvc.yaml as a Prefect task, then the registry. `python -m flows.pipeline`, or a deployment of it."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedsynth.settings import Settings, masked, quiet, tracking_uri

quiet()
if __name__ == "__main__":
    # The terminal has lines of our own; Prefect's go to its server. Before prefect is imported, for it reads this then.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Completed, State
from prefect.task_runners import ThreadPoolTaskRunner

from fedsynth import params as configuration
from flows import dvcx
from flows.slots import Slots
from flows.terminal import Terminal

# Two jobs of three sites each fill two cores; more would only queue for them. Prefect's threads wait for upstream stages too, so that a
# limit on the threads would let a waiting stage keep a ready one from running.
AT_ONCE = 2


class Run:
    """What the tasks of one flow run share: DVC, the terminal, the tracker."""

    def __init__(self, root: Path, params: configuration.Params, stages: dict[str, list[str]], terminal: Terminal):
        self.root, self.params, self.terminal = root, params, terminal
        self.runner = dvcx.Runner(root, AT_ONCE)
        self.stale = set().union(*dvcx.stale(root, stages))
        self.tracker = Tracking(root, params)
        self.stages = stages
        self.ran: set[str] = set()
        self.slots = Slots(AT_ONCE)
        self.outcomes: dict[str, dict[str, Any]] = {}

    def priority(self, address: str) -> int:
        """Models in the order of params.yaml, which names the longest training first; then what belongs to no model."""
        models = list(self.params.models)
        model = address.partition("@")[2]
        return models.index(model) if model in models else len(models)


class Tracking:
    """The MLflow run of this flow run, opened in the background: it takes seconds and nothing waits for it before the first round."""

    def __init__(self, root: Path, params: configuration.Params):
        self.root, self.params = root, params
        self._ready: threading.Thread | None = None
        self._tracker: Any = None
        self._error: BaseException | None = None

    def open(self, name: str, tags: dict[str, str]) -> None:
        self._ready = threading.Thread(target=self._open, args=(name, tags), daemon=True)
        self._ready.start()

    def _open(self, name: str, tags: dict[str, str]) -> None:
        try:
            from fedsynth.registry.tracking import Tracker

            self._tracker = Tracker(self.root, self.params, name=name, tags=tags)
        except BaseException as error:  # raised in whoever asks for the tracker
            self._error = error

    def get(self) -> Any:
        assert self._ready is not None, "the tracker is opened by the flow"
        self._ready.join()
        if self._error is not None:
            raise self._error
        return self._tracker

    def close(self, status: str) -> None:
        if self._ready is not None and self._error is None:
            self.get().close(status)


_run: Run  # one flow run in a process: DVC allows one to write in a working directory anyway


def may_retry(task: Any, task_run: Any, state: State) -> bool:
    """A federation that broke is worth another try; bad input is not, nor is anything while the run is being ended."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, dvcx.StageFailed) and error.retry and not _run.runner.stopping.is_set()


@task(retries=1, retry_delay_seconds=5, retry_condition_fn=may_retry)
def stage(address: str) -> State:
    """Bring one stage instance up to date. The state says whether it ran or DVC had it already."""
    log = get_run_logger()
    if address not in _run.stale and not _run.ran.intersection(_run.stages[address]):
        return _finish(address, dvcx.UNCHANGED, log)
    with _run.slots.take(_run.priority(address)):
        if _run.runner.stopping.is_set():
            _run.terminal.end(address, "left")
            raise dvcx.StageFailed(f"{address}: {dvcx.ENDED}", retry=False)
        _run.terminal.start(address)
        try:
            outcome = _run.runner.repro(address, Listener(address, log))
        except dvcx.StageFailed as error:
            ended = _run.runner.stopping.is_set()
            _run.terminal.end(address, "ended" if ended else "failed", "" if ended else str(error))
            raise
    return _finish(address, outcome, log)


def _finish(address: str, outcome: str, log: Any) -> State:
    if outcome == dvcx.RAN:
        _run.ran.add(address)
        name, _, model = address.partition("@")
        _run.tracker.get().stage(name, model, {"dvc": outcome})
        if name != "score":  # its numbers come with the registration
            _run.tracker.get().ended(name, model)
    _run.outcomes[address] = {"outcome": outcome}
    _run.terminal.end(address, outcome)
    log.info("%s: %s", address, outcome)
    if outcome == dvcx.RAN:
        return Completed(message="ran", data=outcome)
    return Completed(name="Cached", message=f"dvc: {outcome}", data=outcome)


class Listener:
    """Takes a stage's output: events become progress, metrics and terminal lines; the rest is the task run's log."""

    def __init__(self, address: str, log: Any):
        from nvflare_jobs.centre.show import EVENT, WARNING, losses

        self.address, self.log = address, log
        self.model = address.partition("@")[2]
        self.event_prefix, self.warning_prefix, self.losses = EVENT, WARNING, losses
        self.artifact: Any = None

    def __call__(self, line: str) -> None:
        if not line.startswith(self.event_prefix):
            if line.startswith(self.warning_prefix):
                self.log.warning(line)
                _run.terminal.warn(line)
            elif line:
                self.log.info(line)
                _run.terminal.say(self.address, line)
            return
        event = json.loads(line.removeprefix(self.event_prefix))
        if event["kind"] == "round":
            self.round(event)
        elif event["kind"] == "job" and self.model and self.address.startswith("train@"):
            _run.tracker.get().stage("train", self.model, {"flare.job_id": event["job_id"]})

    def round(self, event: dict[str, Any]) -> None:
        text = self.losses(event["sites"])
        _run.terminal.round(self.address, event, text)
        self.log.info("round %d/%d  %s", event["round"] + 1, event["rounds"], text)
        if self.model:  # the references' rounds belong to no model
            _run.tracker.get().round(self.model, event)
        percent = 100 * (event["round"] + 1) / event["rounds"]
        if self.artifact is None:
            key = self.address.replace("@", "-").replace("_", "-")
            self.artifact = create_progress_artifact(progress=percent, key=f"{key}-progress", description=f"rounds of {self.address}")
        else:
            update_progress_artifact(artifact_id=self.artifact, progress=percent)


@task
def register(model: str) -> str:
    """Put a model into MLflow's registry, once for the same weights, and its scores and pictures into its run."""
    version = _run.tracker.get().publish(model)
    get_run_logger().info("fedsynth-%s version %s", model, version)
    return f"{model}: version {version}"


@task
def publish() -> None:
    """The report's text and pictures as artifacts of the flow run, and the whole of it as one of the MLflow run."""
    import base64

    report = _run.root / "reports" / "report"
    verdict = (report / "verdict.md").read_text(encoding="utf-8")
    create_markdown_artifact(verdict, key="verdict", description="verdict, gates, table of worth, measures")
    for picture in [report / "tradeoff.png", *sorted(report.glob("samples_*.png"))]:
        data = base64.b64encode(picture.read_bytes()).decode()
        said = "worth against privacy" if picture.stem == "tradeoff" else "samples of a synthetic set"
        create_image_artifact(f"data:image/png;base64,{data}", key=picture.stem.replace("_", "-"), description=said)
    _run.tracker.get().report(report)


@flow(name="pipeline", log_prints=False, task_runner=ThreadPoolTaskRunner(max_workers=64))
def pipeline() -> None:
    """ingest, validate, train, sample, score, report as dvc.yaml says; then the registry."""
    global _run
    settings = Settings.read()
    os.chdir(settings.root)
    params = configuration.load()
    stages = dvcx.graph(settings.root)
    with Terminal(len(stages) + len(params.models)) as terminal:
        _run = Run(settings.root, params, stages, terminal)
        _run.tracker.open(flow_run.name or "pipeline", {"prefect.flow_run_id": str(flow_run.id)})
        status = "FAILED"
        try:
            _follow(stages)
            _register(params)
            publish()
            status = "FINISHED"
        except BaseException as error:
            # SIGTERM, Prefect's cancel and Ctrl-C arrive here as exceptions that are no Exception: the stages and their federations end
            # before the flow does, whose threads wait for them.
            status = status if isinstance(error, Exception) else "KILLED"
            with undisturbed():
                _run.runner.stop()
            raise
        finally:
            _run.tracker.close(status)


def _follow(stages: dict[str, list[str]]) -> None:
    futures: dict[str, PrefectFuture] = {}
    for address, upstream in stages.items():
        futures[address] = stage.with_options(name=address, task_run_name=address).submit(address, wait_for=[futures[u] for u in upstream])
    failed = []
    for address, future in futures.items():
        future.wait()
        if not future.state.is_completed():
            failed.append(address)
            if address not in _run.outcomes and future.state.name == "NotReady":
                _run.terminal.end(address, "left")
    if failed:
        first = next(f for f in failed if futures[f].state.is_failed() or futures[f].state.is_crashed())
        raise RuntimeError(f"{first} failed, and with it {len(failed) - 1} stages that follow from it; what was computed is kept")


def _register(params: configuration.Params) -> None:
    for model in params.models:
        _run.terminal.start(f"register@{model}")
        register.with_options(task_run_name=f"register@{model}")(model)
        _run.terminal.end(f"register@{model}", "ran")


@contextmanager
def undisturbed() -> Iterator[None]:
    """A second Ctrl-C or SIGTERM waits until the first has been seen to."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def up_to_date(root: Path, params: configuration.Params) -> bool:
    """Whether DVC has nothing to do and the registry has every model's weights. A few seconds, where a flow run takes fifteen."""
    stages = dvcx.graph(root)
    changed, outward = dvcx.stale(root, stages)
    if changed:
        return False
    for stage in outward:
        dvcx.Runner(root).repro(stage, lambda line: None)
    if dvcx.stale(root, stages)[0]:
        return False
    from fedsynth.registry import tracking

    return tracking.registered(root, params)


def summary(root: Path, params: configuration.Params) -> None:
    from rich.console import Console

    from fedsynth.worth import worth

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140  # a log has no width: the table is not to be cut
    console.print(worth.text(worth.rows(root, list(params.models))))
    for model, verdict in json.loads((root / "reports" / "verdict.json").read_text()).items():
        failed = [g for g in verdict["gates"] if not g["held"] and g["kind"] == "require"]
        print("\n".join([f"gates    {model}: {verdict['said']}", *(f"         {g['gate']}: {g['reason']}" for g in failed)]))
    print(f"report   {root / 'reports/report/index.html'}")
    print(f"runs     .venv/bin/mlflow ui --host 127.0.0.1 --backend-store-uri {masked(tracking_uri(root))}")
    print("flows    .venv/bin/prefect server start")


def serve() -> None:
    """Start Prefect's own server where PREFECT_API_URL names none, out of reach of a terminal's Ctrl-C, which goes to all its processes.

    Without the server the flow could not say how it ended, and would ask for it for minutes. A blocked signal stays blocked in a child.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with get_client(sync_client=True):  # starts it, once for the process
            pass
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def main() -> int:
    started = time.monotonic()
    # Prefect passes a SIGTERM on to the handler that it found. The default one ends the process on the spot, and its server stays behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        settings = Settings.read()
        os.chdir(settings.root)
        params = configuration.load()
        if up_to_date(settings.root, params):
            print("Nothing has changed since the last run.")
        else:
            print(f"fedsynth: {', '.join(params.models)} over {settings.federation}; Ctrl-C ends the run and its federation", flush=True)
            serve()
            pipeline()
    except KeyboardInterrupt:
        print("interrupted; what was computed is kept", file=sys.stderr)
        return 130
    except Exception as error:
        print(masked(f"error: {error}"), file=sys.stderr)
        return 1
    summary(settings.root, params)
    print(f"{time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
