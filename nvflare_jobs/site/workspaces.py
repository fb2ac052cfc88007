"""Folders of earlier jobs in a site's FLARE workspace: FLARE leaves one for each job, with logs that name rows."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from fedsynth.hospital import states
from nvflare_jobs.site.submitter import of_process

OURS = re.compile(r"(?P<stage>.+)-[0-9a-f]{16}")  # a job's name, which ends with its token (centre/job_folder.py)


def prune(keep: int) -> None:
    """Remove the folders of each stage's jobs but the newest `keep`. Those of jobs that run here, and of others, stay.

    The simulator has a workspace for each job, which goes with it.
    """
    workspace, _ = of_process()
    old = older(Path(workspace), keep) if workspace else []
    busy = running() if old else set()
    for folder in old:
        if folder.name not in busy:
            shutil.rmtree(folder, ignore_errors=True)  # what another user owns stays


def older(workspace: Path, keep: int) -> list[Path]:
    """Return the folders of our jobs but each stage's newest `keep`."""
    return states.older_of_each(_ours(workspace), keep)


def _ours(workspace: Path) -> Iterator[tuple[str, Path]]:
    """Yield the stage and the folder of each of our jobs."""
    for path in workspace.glob("*/meta.json"):
        about = json.loads(path.read_text(encoding="utf-8"))
        if about.get("job_id") == path.parent.name and (named := OURS.fullmatch(str(about.get("name")))):
            yield named["stage"], path.parent


def running() -> set[str]:
    """Return all words of the command lines on this machine: FLARE starts a job's process with the job's id."""
    return {word for process in psutil.process_iter(["cmdline"]) for word in process.info["cmdline"] or ()}
