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
from pathlib import Path
from typing import Any

from fedsynth.settings import Settings, quiet

quiet()  # Prefect reads the environment when it is imported

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.futures import PrefectFuture
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Failed, State
from prefect.task_runners import ThreadPoolTaskRunner

from fedsynth import checks
from fedsynth.stages import estimate, last_run
from fedsynth.study import git
from fedsynth.worth import missing
from flows import artifacts, chosen, concerns, dvcx, experiment, tidy
from flows.listener import Listener
from flows.record import Record
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
    run.outcomes[address] = outcome
    run.terminal.end(address, outcome)
    log.info("%s: %s", address, outcome)
    if outcome == dvcx.RAN:
        return Completed(message="ran", data=outcome)
    return Completed(name="Cached", message=f"dvc: {outcome}", data=outcome)


@task(cache_policy=NO_CACHE)
def register(run: Run, model: str) -> str:
    """Register a model in MLflow, once for the same weights, and add its results to its run."""
    version = run.tracker.get().publish(model)
    get_run_logger().info("%s version %s", model, version)
    return f"{model}: version {version}"


@task(cache_policy=NO_CACHE)
def publish(run: Run) -> None:
    """Store what Prefect's page shows of the report as an artifact of the flow run, and the whole in the MLflow run."""
    report, tracker = run.root / "reports" / "report", run.tracker.get()
    text = artifacts.markdown(report, tracker.address("report/index.html"))
    create_markdown_artifact(text, key="report", description="verdict, gates, pictures, tables of worth, measures")
    tracker.report(report)


@flow(name="pipeline", log_prints=False, task_runner=ThreadPoolTaskRunner(max_workers=64))
def pipeline(params: str | list[str] = "", models: str | list[str] = "") -> State:
    """Run the stages of dvc.yaml (ingest, validate, train, sample, score, report), then register the models.

    A model that fails does not take the others' report: its row there says why, and the run ends as failed.

    Args:
        params: Other values than params.yaml has, for this run alone, which is then an experiment of DVC: overrides
            such as models.vae.training.rounds=20, or the path of a params file; one text or a list. Empty: none.
        models: The models to run, such as vae,gan; one text or a list. The report shows those that have results. Empty:
            all.
    """  # Prefect's form takes the descriptions from here
    settings = Settings.read()
    os.chdir(settings.root)
    dvcx.allow_no_git(settings.root)
    last_run.alone(settings.root, experiment.name_of(params))
    what = deployment.name or "the run"
    record = Record(settings.root, flow_run.name or "", deployment.name or "")
    with recorded(record), experiment.opened(settings.root, params) as opened:
        record.of(opened.name)
        run = _run(opened.root, models, record)
        opened.save(run.outcomes)
        if not (failures := run.failures()):
            opened.done()
            record.end(last_run.COMPLETED)
            _tidy(settings)
            if not opened.name:  # an experiment is kept by DVC
                git.keep(settings.root, f"Run: {run.computed()}")
            return Completed(message="all models that were asked for have results")
        for of in failures:
            get_run_logger().error("%s: %s", of.stage, of.why)
        said = concerns.message(what, settings.root.name, failures)
        record.end(last_run.FAILED, said)
        _tidy(settings)
        return Failed(message=f"{concerns.MARK}{said}")


def _tidy(settings: Settings) -> None:
    if said := tidy.after(settings):
        get_run_logger().warning(said)
        print(said, flush=True)


@contextmanager
def recorded(record: Record) -> Iterator[None]:
    """Record how a run ended that did not come to its end."""
    try:
        yield
    except BaseException as error:  # SIGTERM, Prefect's cancel and Ctrl-C are no Exceptions
        ended = isinstance(error, Exception)
        record.end(last_run.FAILED if ended else last_run.CANCELLED, concerns.UNKNOWN if ended else "")
        raise


def _run(root: Path, models: str | list[str], record: Record) -> Run:
    """Run the stages of these models, register those with results, and store the report."""
    settings = Settings.read()
    params = checks.load_or_list(root / "params.yaml", settings.simulation)
    wanted, graph = chosen.asked(models, params.models), dvcx.graph(root)
    addresses = chosen.stages(graph, wanted)
    part = params.model_copy(update={"models": {name: params.models[name] for name in wanted}})
    plan = estimate.planned(root, part, settings, estimate.images_of(root, part, settings))
    record.wait(addresses)
    with Terminal(len(addresses) + len(wanted), plan, record=record) as terminal:
        run = Run(root, params, graph, terminal)
        run.tracker.open({"prefect.flow_run": flow_run.name or "", "prefect.flow_run_id": str(flow_run.id)})
        status = "FAILED"
        try:
            if _follow(run, addresses):
                _register(run, wanted)
                publish(run)
            status = "FAILED" if run.failed else "FINISHED"
        except BaseException as error:
            # SIGTERM, Prefect's cancel and Ctrl-C arrive here as BaseException but not Exception. The stages and their
            # federations must end before the flow, whose threads wait for them.
            status = status if isinstance(error, Exception) else "KILLED"
            with undisturbed():
                run.runner.stop()
            raise
        finally:
            run.tracker.close(status)
    return run


def _follow(run: Run, addresses: list[str]) -> bool:
    """Run the stages. Returns whether there is a report.

    Those that look outside the graph come first: they determine which of the others are stale. Those that gather what
    is known of all models come last, and are run without the models that failed.
    """
    run.look()
    futures = _submit(run, run.first, {})
    run.look()
    last = chosen.gathering(run.stages)
    futures |= _submit(run, [of for of in addresses if of not in futures and of not in last], futures)
    failed = {stage: run.why(stage) for stage in run.failed}
    run.missing = chosen.missing(run.stages, failed, run.stale, run.outcomes)
    missing.write(run.root, run.missing)
    if run.missing.keys() >= set(run.params.models):
        for address in last:
            run.terminal.end(address, "left")
        return False
    there = {a: f for a, f in futures.items() if a in run.outcomes or not chosen.model_of(a)}
    _submit(run, last, there)
    return all(address in run.outcomes for address in last)


def _submit(run: Run, addresses: list[str], before: dict[str, PrefectFuture]) -> dict[str, PrefectFuture]:
    """Run stages, each once those that it depends on have ended, and wait for them all. `before`: run already."""
    futures = dict(before)
    for address in addresses:
        waited_for = [futures[u] for u in run.stages[address] if u in futures]
        futures[address] = stage.with_options(name=address, task_run_name=address).submit(
            run, address, wait_for=waited_for
        )
    for address in addresses:
        futures[address].wait()
        state = futures[address].state
        if state.name == "NotReady":  # a stage that it depends on failed
            run.terminal.end(address, "left")
        elif not state.is_completed():
            run.failed[address] = state.result(raise_on_failure=False)
    return {address: futures[address] for address in addresses}


def _register(run: Run, models: list[str]) -> None:
    """Register the models that have results."""
    from fedsynth.registry import stale

    for title in stale.mark(run.root):
        get_run_logger().warning("%s is stale: %s", title, stale.WITHDRAWN)
    for model in models:
        if model in run.missing:
            run.terminal.end(f"register@{model}", "left")
            continue
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
