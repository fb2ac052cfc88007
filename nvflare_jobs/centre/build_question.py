"""Builds the job that asks every site one question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.params import Consortium, names
from nvflare_jobs.centre.job_folder import export, new_job
from nvflare_jobs.server.ask import Ask


def ask(
    folder: Path,
    kind: str,
    name: str,
    sites: list[str],
    consortium: Consortium,
    config: dict[str, Any],
    payload: dict[str, np.ndarray] | None = None,
    quorum: int | None = None,
    thin: bool = True,
) -> Path:
    """Write a job that asks every site one question, answered by the client.py of `kind`. Returns the job's folder."""
    sites = list(names.keys(sites).values())
    quorum = quorum or consortium.enough(sites)
    job = new_job(name, quorum)
    job.to_server(Ask(sites=sites, quorum=quorum, grace_s=consortium.grace_s))
    # FLARE does not send an empty model, so a question without arrays carries one number
    return export(
        job, folder, sites, kind, config, {"payload.safetensors": payload or {"none": np.zeros(1, np.float32)}}, thin
    )
