"""`fedsynth metrics`: the last run, its stages, rounds, sites and gates as Prometheus text.

All of it comes from files that runs leave (.work/run.json, .work/times.json, reports/verdict.json): no server is asked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsynth.errors import UserError
from fedsynth.stages import last_run, plan
from fedsynth.worth.judgement import STATES, state

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import GaugeMetricFamily

STAGE_STATES = ("ran", "restored", "unchanged", "failed", "ended", "left")  # as flows/terminal.py shows them
Samples = Iterable[tuple[tuple[str, ...], float]]  # values of the labels, value


class MetricsError(UserError):
    """Metrics cannot be served; the message says why."""


def registry(root: Path) -> CollectorRegistry:
    """Return a registry that reads the files anew whenever it is asked."""
    from prometheus_client import CollectorRegistry

    made = CollectorRegistry(auto_describe=False)
    made.register(Files(root))
    return made


def text(root: Path) -> str:
    from prometheus_client import generate_latest

    return generate_latest(registry(root)).decode()


def serve(root: Path, port: int) -> None:
    """Serve the metrics on this computer until Ctrl-C: a proxy may show them to others."""
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, addr="127.0.0.1", registry=registry(root))
    except OSError as error:
        raise MetricsError(f"port {port} cannot be used: {error.strerror}; choose another one: --port") from error
    try:
        thread.join()
    finally:
        server.shutdown()


class Files:
    """A collector of the Prometheus client."""

    def __init__(self, root: Path):
        self.root = root

    def collect(self) -> Iterator[GaugeMetricFamily]:
        told = last_run.read(self.root)
        if told:
            yield from _run(told)
            yield from _stages(told)
            yield from _sites(told)
        seconds = {(stage,): took for stage, took in plan.times_of(self.root).items()}
        yield _gauge("stage_duration_seconds", "of the stage's last run", ("stage",), seconds.items())
        yield from _gates(self.root)


def _run(told: dict[str, Any]) -> Iterator[GaugeMetricFamily]:
    outcomes = {(name,): float(told["outcome"] == name) for name in last_run.OUTCOMES}
    yield _gauge("run_outcome", "1 for how the last run ended, or that it runs", ("outcome",), outcomes.items())
    for name, text in {
        "began": "start of the last run",
        "ended": "end of the last run, none while it runs",
        "succeeded": "end of the newest run without a failure",
    }.items():
        if told[name] is not None:
            yield _gauge(f"run_{name}_timestamp_seconds", text, (), [((), told[name])])
    until = told["ended"] or (time.time() if told["outcome"] == last_run.RUNNING else None)
    if until is not None:
        yield _gauge("run_duration_seconds", "of the last run, so far while it runs", (), [((), until - told["began"])])


def _stages(told: dict[str, Any]) -> Iterator[GaugeMetricFamily]:
    states = [of["state"] for of in told["stages"].values()]
    counts = {(name,): float(states.count(name)) for name in (last_run.WAITING, last_run.RUNNING, *STAGE_STATES)}
    yield _gauge("stages", "stages of the last run by their state; waiting and running: its queue", ("state",),
                 counts.items())  # fmt: skip
    for i, (name, text) in enumerate({"done": "that were done", "planned": "that are to be done"}.items()):
        rounds = {(stage,): float(of[i]) for stage, of in told["rounds"].items()}
        yield _gauge(f"rounds_{name}", f"rounds of the last run's jobs {text}", ("stage",), rounds.items())


def _sites(told: dict[str, Any]) -> Iterator[GaugeMetricFamily]:
    answered = {(site,): 1.0 for site in told["sites"]} | {(site,): 0.0 for site in told["left_out"]}
    yield _gauge("site_answered", "1 where the site answered in the last round", ("site",), answered.items())


def _gates(root: Path) -> Iterator[GaugeMetricFamily]:
    path = root / "reports" / "verdict.json"
    verdicts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    counts = {(model, kind, name): 0.0 for model in verdicts for kind in ("require", "warn") for name in STATES}
    for model, of in verdicts.items():
        for gate in of["gates"]:
            counts[model, gate["kind"], state(gate)] += 1
    yield _gauge("gates", "gates by their state", ("model", "kind", "state"), counts.items())
    passed = {(model,): float(of["passed"]) for model, of in verdicts.items()}
    yield _gauge("model_promotable", "1 where all required gates hold", ("model",), passed.items())


def _gauge(name: str, text: str, labels: tuple[str, ...], samples: Samples) -> GaugeMetricFamily:
    from prometheus_client.core import GaugeMetricFamily

    made = GaugeMetricFamily(f"fedsynth_{name}", text, labels=labels)
    for values, value in samples:
        made.add_metric(values, value)
    return made
