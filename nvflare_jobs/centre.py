"""The centre's side of every job: run it, show its events live, and end it whatever happens to this process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsynth import outputs, processes
from fedsynth import params as configuration
from fedsynth.errors import UserError
from fedsynth.history import sized
from fedsynth.params import Params
from fedsynth.settings import Settings, quiet
from nvflare_jobs import build, federation
from nvflare_jobs.server import ANSWERS

WARNING = "warning: "  # a line of a stage's output that starts so is for the person at the terminal, whatever else scrolls by
EVENT = "::event "  # what follows on a line of a stage's output is JSON for the flow


class StageError(UserError):
    """A stage cannot do its work; the message says why and what to do."""


def public(params: Params) -> dict[str, Any]:
    """What of params.yaml goes into a job: nothing of where images come from, nothing of the models that the job is not about."""
    raw = params.model_dump(mode="json")
    return raw | {"source": {"class_path": params.source.class_path, "args": {}}, "models": {}}


@dataclass(frozen=True)
class Result:
    """The server's run folder, brought here, and the job that left it."""

    folder: Path
    job_id: str


def run(stage: str, job: Path, sites: list[str], settings: Settings, rounds: int = 0) -> Result:
    """Run one job to its end and bring its result. Prints a line for each event, and the event itself where asked for."""
    work = settings.root / ".work" / "jobs" / stage.replace("@", "-")
    show, result = Show(stage, rounds, settings.events), work / "result"
    shutil.rmtree(result, ignore_errors=True)
    with federation.connect(settings, work, sites) as connected:
        federation.run(connected, job, build.token(job), sites, result, show)
    return Result(result, show.job_id)


def ask(stage: str, job: Path, sites: list[str], settings: Settings) -> dict[str, dict[str, Any]]:
    """Run a question to its end. For each site {"answer": ...}, or {"failed": why there is none}."""
    result = run(stage, job, sites, settings)
    found: dict[str, dict[str, Any]] = json.loads((result.folder / ANSWERS).read_text())
    for site in sites:
        if failed := found[site].get("failed"):
            print(f"{WARNING}{stage}: no answer from {site}: {failed}", flush=True)
    return found


def rows(params: Params, settings: Settings, kind: str, name: str, payload: dict[str, Any], more: dict[str, Any],
         started: float) -> tuple[Path, dict[str, Any]]:  # fmt: skip
    """Ask every site that passed for rows of the table of worth, and write them to reports/ (`complete`), with `left_out`: site -> why it
    did not answer. Returns the file and the sites' answers.

    `kind`: whose client answers, "reference" or "score"; `name`: of the model, if any; `more` goes into the question.
    """
    from fedsynth.stages.networks import uses

    validation = validated(settings.root)
    sites, stage = validation["used"], f"{kind}@{name}" if name else kind
    digests = {site: validation["sites"][site]["digest"] for site in sites}
    config = {"params": public(params), "name": name, "digests": digests, **more}
    folder = settings.root / ".work" / "jobs" / f"{stage.replace('@', '-')}-job"
    fitted = time.monotonic() - started
    job = build.ask(folder, kind, stage.replace("@", "_"), sites, params.consortium, config, payload, thin=settings.thin)
    found = ask(stage, job, sites, settings)
    answers = {site: found[site]["answer"] for site in sites if "answer" in found[site]}
    seconds = {"centre": round(fitted, 1)} | {site: answer["seconds"] for site, answer in answers.items()}
    left_out = {site: found[site]["failed"] for site in sites if site not in answers}
    out = settings.root / "reports" / (f"{kind}/{name}.json" if name else f"{kind}.json")
    headlines = {use: of.headline for use, of in uses(params).items()}
    written = complete([answer["rows"] for answer in answers.values()], left_out, headlines)
    outputs.write(out, {"rows": written, "seconds": seconds, "left_out": left_out})
    print(f"{stage}: {len(answers)} of {len(sites)} sites answered", flush=True)
    return out, answers


def complete(answers: list[list[dict[str, Any]]], left_out: dict[str, str], headlines: dict[str, str]) -> list[dict[str, Any]]:
    """The rows of all sites, each with every metric of its use and the headline first, whatever a site withheld.

    A site that did not answer has the rows that the others have, without a value: a mean over the others would be another quantity.
    """
    rows = [row for answer in answers for row in answer]
    metrics = {use: dict.fromkeys([first, *(m for r in rows if r["use"] == use for m in r["metrics"])]) for use, first in headlines.items()}
    absent = [_absent(row, site, why) for site, why in left_out.items() for row in answers[0]]
    return [row | {"metrics": metrics[row["use"]] | row["metrics"]} for row in [*rows, *absent]]


def _absent(row: dict[str, Any], site: str, why: str) -> dict[str, Any]:
    on = site if row["trained_on"] == row["site"] else row["trained_on"]
    return row | {"site": site, "trained_on": on, "metrics": {}, "n": {}, "left_out": why}


def expected(params: Params, settings: Settings) -> list[str]:
    """The sites of the consortium: those that params.yaml names, else the source's; of a real federation those that are connected."""
    if params.consortium.sites:
        return params.consortium.sites
    if settings.simulation:
        return list(params.source.build(image=params.image.sourced, seed=params.seed).sites())
    with federation.connect(settings, settings.root / ".work" / "jobs" / "sites") as connected:
        found = connected.sites()
    if not found:
        raise federation.FederationError("no site is connected to the federation; start the sites' FLARE clients")
    return found


class Show:
    """Turns a job's events into lines on the terminal (and JSON for the flow): round, losses, seconds, time left."""

    def __init__(self, stage: str, rounds: int, events: bool):
        self.stage, self.rounds, self.events = stage, rounds, events
        self.started = self.last = time.monotonic()
        self.first_round: float | None = None
        self.seen = 0
        self.job_id = ""

    def __call__(self, event: federation.Event) -> None:
        now = time.monotonic()
        if event.kind == "job":
            self.job_id = event.status
            self.event({"kind": "job", "job_id": event.status})
            return
        if event.kind == "status":
            self.event({"kind": "status", "status": event.status})
            if event.status.startswith(federation.NOTABLE):
                print(f"{WARNING}{self.stage}: {event.status}", flush=True)
            elif not self.events:
                print(f"{self.stage}: {event.status}", flush=True)
            return
        if event.resumed:
            print(f"{WARNING}{self.stage}: goes on with round {event.round + 1}, where an earlier job of this training ended", flush=True)
        for site, why in event.left_out.items():
            print(f"{WARNING}{self.stage}: round {event.round + 1} without {site}: {why}", flush=True)
        seconds, self.last = event.seconds or now - self.last, now
        self.seen += 1
        self.first_round = self.first_round or now
        left = (now - self.first_round) / (self.seen - 1) * (self.rounds - event.round - 1) if self.seen > 1 else None
        numbers = {"round": event.round, "rounds": self.rounds, "seconds": round(seconds, 2), "left": left}
        self.event({"kind": "round"} | numbers | {"sites": event.sites, "left_out": event.left_out, "traffic": event.traffic})
        if not self.events:
            ahead = f"  {left:.0f} s left" if left is not None else ""
            sent = sum(sum(counts.values()) for counts in event.traffic.values())
            moved = f"  {sized(sent)}" if sent else ""
            print(f"{self.stage}: round {event.round + 1}/{self.rounds}  {losses(event.sites)}{moved}{ahead}", flush=True)

    def event(self, event: dict[str, Any]) -> None:
        if self.events:
            print(EVENT + json.dumps({"stage": self.stage} | event), flush=True)


def losses(sites: dict[str, dict[str, float]]) -> str:
    """Each player's loss, as a mean over the sites by weight: "generator 0.71  discriminator 0.65"; and the greatest epsilon, if any."""
    total = sum(s.get("weight", 1.0) for s in sites.values()) or 1.0
    players = sorted({k for s in sites.values() for k in s if k.startswith("loss/")})
    mean = {p: sum(s.get("weight", 1.0) * s.get(p, 0.0) for s in sites.values()) / total for p in players}
    spent = [s["epsilon"] for s in sites.values() if "epsilon" in s]
    words = [f"{p.removeprefix('loss/')} {v:.3f}" for p, v in mean.items()] + ([f"epsilon {max(spent):.2f}"] if spent else [])
    return "  ".join(words)


def main(stage: Callable[[Params, Settings], None]) -> None:
    """Run a stage as a program: errors are one clear text and exit code 1, a signal ends the job first."""
    quiet()
    signal.signal(signal.SIGTERM, _terminate)
    processes.mind_owner()
    try:
        settings = Settings.read()
        os.chdir(settings.root)
        stage(configuration.load(), settings)
    except federation.FederationError as error:  # another try may help, and the flow knows it by this word
        print(f"federation error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    except processes.Orphaned:  # a job in a real federation runs on, and the next run finds it
        print("the flow of this stage was killed", file=sys.stderr, flush=True)
        sys.exit(129)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        sys.exit(130)


def _terminate(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not stop the ending of the job
    sys.exit(128 + number)


def validated(root: Path) -> dict[str, Any]:
    """reports/validation.json. Raises UserError where validation has not run."""
    found: dict[str, Any] = outputs.read(root / "reports" / "validation.json", "validate")
    return found
