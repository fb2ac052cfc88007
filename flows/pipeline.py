"""The main job: every stage of dvc.yaml as a Prefect task, then the registry.

Run by `python -m flows` (flows/__main__.py) or `python -m flows.pipeline`, or as a deployment.
"""

from __future__ import annotations

if __name__ == "__main__":  # `python -m flows.pipeline` is `python -m flows`, which imports Prefect only where it must
    import runpy

    runpy.run_module("flows", run_name="__main__")

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fedsynth.settings import Settings, quiet

quiet()  # Prefect reads the environment when it is imported

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_image_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Completed, State
from prefect.task_runners import ThreadPoolTaskRunner

from fedsynth import params as configuration
from fedsynth.stages import estimate
from flows import dvcx
from flows.listener import Listener
from flows.run import Run
from flows.terminal import Terminal


def may_retry(task: Any, task_run: Any, state: State) -> bool:
    """Return whether to retry a stage: where a federation broke, not for bad input or while the run is being ended."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, dvcx.StageFailed) and error.retry


@task(retries=1, retry_delay_seconds=5, retry_condition_fn=may_retry, cache_policy=NO_CACHE)
def stage(run: Run, address: str) -> State:
    """Bring one stage instance up to date. The state says whether it ran or was cached by DVC."""
    log = get_run_logger()
    if not run.has_work(address):
        return _finish(run, address, dvcx.UNCHANGED, log)
    with run.slots.take(run.priority(address)):
        if run.runner.stopping.is_set():
            run.terminal.end(address, "left")
            raise dvcx.StageFailed(f"{address}: {dvcx.ENDED}", retry=False)
        run.terminal.start(address)
        began = time.monotonic()
        try:
            outcome = run.runner.repro(address, Listener(run, address, log))
        except dvcx.StageFailed as error:
            ended = run.runner.stopping.is_set()
            run.terminal.end(address, "ended" if ended else "failed", "" if ended else str(error))
            raise
        if outcome == dvcx.RAN:
            run.took(address, time.monotonic() - began)
    return _finish(run, address, outcome, log)


def _finish(run: Run, address: str, outcome: str, log: Any) -> State:
    if outcome == dvcx.RAN:
        name, _, model = address.partition("@")
        run.tracker.get().stage(name, model, {"dvc": outcome})
        if name != "score":  # its numbers are written at registration
            run.tracker.get().ended(name, model)
    run.outcomes[address] = outcome
    run.terminal.end(address, outcome)
    log.info("%s: %s", address, outcome)
    if outcome == dvcx.RAN:
        return Completed(message="ran", data=outcome)
    return Completed(name="Cached", message=f"dvc: {outcome}", data=outcome)


@task(cache_policy=NO_CACHE)
def register(run: Run, model: str) -> str:
    """Register a model in MLflow, once for the same weights, and add its scores and pictures to its run."""
    version = run.tracker.get().publish(model)
    get_run_logger().info("fedsynth-%s version %s", model, version)
    return f"{model}: version {version}"


@task(cache_policy=NO_CACHE)
def publish(run: Run) -> None:
    """Store the report's text and pictures as artifacts of the flow run, and the whole report in the MLflow run."""
    import base64

    report = run.root / "reports" / "report"
    verdict = (report / "verdict.md").read_text(encoding="utf-8")
    create_markdown_artifact(verdict, key="verdict", description="verdict, gates, table of worth, measures")
    for picture in [report / "tradeoff.png", *sorted(report.glob("samples_*.png"))]:
        data = base64.b64encode(picture.read_bytes()).decode()
        said = "worth against privacy" if picture.stem == "tradeoff" else "samples of a synthetic set"
        create_image_artifact(f"data:image/png;base64,{data}", key=picture.stem.replace("_", "-"), description=said)
    run.tracker.get().report(report)


@flow(name="pipeline", log_prints=False, task_runner=ThreadPoolTaskRunner(max_workers=64))
def pipeline() -> None:
    """Run the stages of dvc.yaml (ingest, validate, train, sample, score, report), then register the models."""
    settings = Settings.read()
    os.chdir(settings.root)
    dvcx.allow_no_git(settings.root)
    params = configuration.load()
    stages = dvcx.graph(settings.root)
    plan = estimate.planned(settings.root, params, settings, estimate.images_of(settings.root, params, settings))
    with Terminal(len(stages) + len(params.models), plan) as terminal:
        run = Run(settings.root, params, stages, terminal)
        run.tracker.open(flow_run.name or "pipeline", {"prefect.flow_run_id": str(flow_run.id)})
        status = "FAILED"
        try:
            _follow(run)
            _register(run)
            publish(run)
            status = "FINISHED"
        except BaseException as error:
            # SIGTERM, Prefect's cancel and Ctrl-C arrive here as BaseException but not Exception. The stages and their
            # federations must end before the flow, whose threads wait for them.
            status = status if isinstance(error, Exception) else "KILLED"
            with undisturbed():
                run.runner.stop()
            raise
        finally:
            run.tracker.close(status)


def _follow(run: Run) -> None:
    """Run all stages, first those that look outside the graph: they determine which of the others are stale.

    Raises RuntimeError naming the first stage that failed.
    """
    run.look()
    futures = _submit(run, run.first, {})
    for future in futures.values():
        future.wait()
    run.look()
    futures |= _submit(run, [address for address in run.stages if address not in futures], futures)
    failed = []
    for address, future in futures.items():
        future.wait()
        if not future.state.is_completed():
            failed.append(address)
            if address not in run.outcomes and future.state.name == "NotReady":
                run.terminal.end(address, "left")
    if failed:
        own = (f for f in failed if futures[f].state.is_failed() or futures[f].state.is_crashed())
        first = next(own, failed[0])  # the others may all have been cancelled, or wait for one that was
        raise RuntimeError(
            f"{first} failed, and with it {len(failed) - 1} stages that follow from it; what was computed is kept"
        )


def _submit(run: Run, addresses: list[str], before: dict[str, PrefectFuture]) -> dict[str, PrefectFuture]:
    futures = dict(before)
    for address in addresses:
        waited_for = [futures[u] for u in run.stages[address]]
        futures[address] = stage.with_options(name=address, task_run_name=address).submit(
            run, address, wait_for=waited_for
        )
    return futures


def _register(run: Run) -> None:
    from fedsynth.registry import stale

    for title in stale.mark(run.root):
        get_run_logger().warning("%s is stale: %s", title, stale.WITHDRAWN)
    for model in run.params.models:
        run.terminal.start(f"register@{model}")
        register.with_options(task_run_name=f"register@{model}")(run, model)
        run.terminal.end(f"register@{model}", "ran")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore further Ctrl-C and SIGTERM while the first is being handled (in the main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve() -> None:
    """Start Prefect's own server where PREFECT_API_URL names none, shielded from the terminal's Ctrl-C.

    Ctrl-C goes to all processes of the terminal, and a signal that is blocked stays blocked in a child. Without the
    server the flow could not report how it ended, and would retry for minutes.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with get_client(sync_client=True):  # starts it, once for the process
            pass
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
