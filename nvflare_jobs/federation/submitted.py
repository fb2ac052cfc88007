"""The jobs that a study has submitted to a federation's server, so that it deletes its own there, and no others.

FLARE knows a job's user alone, who may have several studies at one server, and a study's name does not travel. So the
centre keeps a file for each job, named by its id.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from nvflare.fuel.flare_api.api_spec import InternalError, JobNotFound

from fedsynth.hospital import states
from fedsynth.settings import Settings, home
from nvflare_jobs.federation.interface import FederationError
from nvflare_jobs.federation.session import Calls

PLACE = Path(".work") / "submitted"
PATIENCE_S = 10.0
ENDED = "FINISHED"  # how FLARE's statuses of all jobs begin that have ended, however


def remember(root: Path, job_id: str, name: str, number: int) -> None:
    """Keep that a job was submitted under `name`, as the `number`-th of that name."""
    folder = home(root) / PLACE  # of the study, also where an experiment has submitted it
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{job_id}.json").write_text(json.dumps({"name": name, "number": number}), encoding="utf-8")


def last(root: Path, name: str) -> int:
    """Return the number of the last job of this name, 0 without any.

    The server refuses the token of a job that was deleted, and takes the job's files before it says so.
    """
    return max((said["number"] for _, said in _known(root) if said["name"] == name), default=0)


def beyond(root: Path, keep: int) -> list[Path]:
    """Return the files of each stage's jobs but those of the newest `keep`; a job's name begins with its stage."""
    named = ((said["name"].rpartition("-")[0], path) for path, said in _known(root))
    return states.older_of_each(named, keep)


def _known(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the file of each job with what it says."""
    for path in (home(root) / PLACE).glob("*.json"):
        yield path, json.loads(path.read_text(encoding="utf-8"))


def bound(settings: Settings, keep: int) -> str:
    """Delete at the server what `beyond` returns and has ended. Returns what is to be said of it, "" where all is well.

    A job that runs or waits stays. Where the server refuses, or does not answer, the jobs stay until the next run.
    """
    assert settings.kit is not None
    if not (old := beyond(settings.root, keep)):
        return ""
    calls = Calls(settings, settings.root / ".work" / "jobs" / "old", settings.kit)
    try:
        for path in old:
            _delete(calls, path)
    except (FederationError, InternalError) as error:
        return f"jobs of earlier runs stay at the federation's server: {' '.join(str(error).split())}"
    finally:
        calls.close()
    return ""


def _delete(calls: Calls, path: Path) -> None:
    """Delete a job where it has ended; its file goes with it, and so where the server does not know it any more."""
    with suppress(JobNotFound):
        if not str(calls.call("get_job_meta", path.stem, patience_s=PATIENCE_S)["status"]).startswith(ENDED):
            return
        calls.call("delete_job", path.stem, patience_s=PATIENCE_S)
    path.unlink()
