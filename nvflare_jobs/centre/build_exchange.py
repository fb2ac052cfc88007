"""The job of a training whose generator is at the centre."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.params import Consortium
from nvflare_jobs.centre.job_folder import FAST_CLIENT, FAST_SERVER, INLINE, _write


def exchange(folder: Path, name: str, sites: list[str], consortium: Consortium, config: dict[str, Any], call_s: float,
             initial: dict[str, np.ndarray], thin: bool = True) -> Path:  # fmt: skip
    """A job in which the centre asks all sites at every step; `initial` is what it begins with. Returns the job's folder."""
    from nvflare.collab import CollabRecipe

    from nvflare_jobs.exchange.client import Exchange
    from nvflare_jobs.exchange.server import Centre

    centre = Centre(sites=sites, call_s=call_s, begin_s=max(call_s, consortium.grace_s))
    job = CollabRecipe(name, server=centre, client=Exchange(), min_clients=len(sites)).finalize()
    job.to_server(FAST_SERVER | INLINE)
    job.to_clients(FAST_CLIENT | INLINE)
    return _write(job, folder, sites, "exchange", config, {"initial.safetensors": initial}, thin)
