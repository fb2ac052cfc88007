"""The centre's half: builds the job of a training with the generator at the centre.

What the stage `train` does before and after is the same as for all other algorithms.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.params import Consortium, Params, Training, names
from nvflare_jobs.centre.job_folder import INLINE, POLLED, write


def prepare(folder: Path, params: Params, name: str, config: dict[str, Any], initial: dict[str, np.ndarray],
            images: dict[str, list[int]], thin: bool) -> Path:  # fmt: skip
    """Write the job's folder and return it. `initial`: the generator's parameters.

    `images`: site -> number of training images of each label, as far as the centre knows them.
    """
    images = {names.key(site): of for site, of in images.items()}
    model, sites = params.models[name], sorted(images)
    algorithm = model.algorithm.build()
    totals = {site: float(sum(images[site])) for site in sites}
    counts_as = totals if algorithm.weighting == "images" else dict.fromkeys(sites, 1.0)
    more = {
        "steps": steps(model.training, list(totals.values())),
        "centre": {"images": totals, "weights": counts_as, "shares": images},
    }
    return build(folder, f"train_{name}", sites, params.consortium, config | more, algorithm.call_s, initial, thin)


def steps(training: Training, images: list[float]) -> int:
    """Return the number of steps of a round: those of a site with the mean number of images."""
    return training.steps(sum(images) / len(images))


def build(folder: Path, name: str, sites: list[str], consortium: Consortium, config: dict[str, Any], call_s: float,
             initial: dict[str, np.ndarray], thin: bool = True) -> Path:  # fmt: skip
    """Write a job in which the centre calls all sites at every step, and return its folder.

    `call_s`: seconds allowed for a call. `initial`: the generator's parameters at the start.
    """
    from nvflare.collab import CollabRecipe

    from nvflare_jobs.exchange.client import Exchange
    from nvflare_jobs.exchange.server import Centre

    quorum = consortium.enough(sites)
    centre = Centre(sites=sites, call_s=call_s, begin_s=max(call_s, consortium.grace_s), quorum=quorum)
    job = CollabRecipe(name, server=centre, client=Exchange(), min_clients=len(sites)).finalize()
    job.to_server(POLLED | INLINE)
    job.to_clients(INLINE)
    return write(job, folder, sites, "exchange", config, {"initial.safetensors": initial}, thin)
