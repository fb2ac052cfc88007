"""Runs one job to its end and fetches its result."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsynth.params import names
from fedsynth.settings import Settings
from nvflare_jobs.centre import job_folder
from nvflare_jobs.centre.show import WARNING, EventPrinter
from nvflare_jobs.federation import runner
from nvflare_jobs.federation.interface import FederationError
from nvflare_jobs.server import round_log
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
    keys = names.keys(sites)  # as which FLARE knows the sites
    texts = {key: site for site, key in keys.items()}
    show, result = EventPrinter(stage, rounds, settings.events, texts), work / "result"
    shutil.rmtree(result, ignore_errors=True)
    try:
        with runner.connect(settings, work, list(keys.values())) as connected:
            runner.run(connected, job, job_folder.token(job), list(keys.values()), result, show)
    except FederationError as error:
        raise type(error)(names.told(str(error), texts)) from error
    _name_sites(result, texts)
    return Result(result, show.job_id)


def _name_sites(result: Path, texts: dict[str, str]) -> None:
    """What the server wrote down, with the names of the sites instead of their keys."""
    if all(key == site for key, site in texts.items()):
        return
    if (answers := result / ANSWERS).is_file():
        answers.write_text(json.dumps(names.told(json.loads(answers.read_text("utf-8")), texts)), "utf-8")
    if (rounds := result / round_log.ROUNDS).is_file():
        lines = [json.dumps(names.told(record, texts)) + "\n" for record in round_log.read(rounds)]
        rounds.write_text("".join(lines), "utf-8")


def ask(stage: str, job: Path, sites: list[str], settings: Settings) -> dict[str, dict[str, Any]]:
    """Run a question to its end. Returns for each site {"answer": ...}, or {"failed": why there is none}."""
    result = run(stage, job, sites, settings)
    found: dict[str, dict[str, Any]] = json.loads((result.folder / ANSWERS).read_text(encoding="utf-8"))
    for site in sites:
        if failed := found[site].get("failed"):
            print(f"{WARNING}{stage}: no answer from {site}: {failed}", flush=True)
    return found
