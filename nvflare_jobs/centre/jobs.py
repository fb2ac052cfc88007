"""Runs one job to its end and fetches its result."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsynth.settings import Settings
from nvflare_jobs.centre import job_folder
from nvflare_jobs.centre.show import WARNING, EventPrinter
from nvflare_jobs.federation import runner
from nvflare_jobs.server.ask import ANSWERS


@dataclass(frozen=True)
class Result:
    """The server's run folder, copied here, and the id of the job that left it."""

    folder: Path
    job_id: str


def run(stage: str, job: Path, sites: list[str], settings: Settings, rounds: int = 0) -> Result:
    """Run one job to its end and fetch its result.

    Prints each event as a line, or as JSON where the settings ask for events.
    """
    work = settings.root / ".work" / "jobs" / stage.replace("@", "-")
    show, result = EventPrinter(stage, rounds, settings.events), work / "result"
    shutil.rmtree(result, ignore_errors=True)
    with runner.connect(settings, work, sites) as connected:
        runner.run(connected, job, job_folder.token(job), sites, result, show)
    return Result(result, show.job_id)


def ask(stage: str, job: Path, sites: list[str], settings: Settings) -> dict[str, dict[str, Any]]:
    """Run a question to its end. Returns for each site {"answer": ...}, or {"failed": why there is none}."""
    result = run(stage, job, sites, settings)
    found: dict[str, dict[str, Any]] = json.loads((result.folder / ANSWERS).read_text())
    for site in sites:
        if failed := found[site].get("failed"):
            print(f"{WARNING}{stage}: no answer from {site}: {failed}", flush=True)
    return found
