"""Builds the job of a training in rounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.params import Consortium, names
from nvflare_jobs.centre.job_folder import export, new_job
from nvflare_jobs.server.aggregator import Aggregate
from nvflare_jobs.server.controller import Rounds
from nvflare_jobs.server.persistor import Arrays


def train(
    folder: Path,
    name: str,
    sites: list[str],
    consortium: Consortium,
    config: dict[str, Any],
    algorithm: dict[str, Any],
    initial: dict[str, np.ndarray],
    rounds: int,
    thin: bool = True,
    kind: str = "train",
    compression: dict[str, Any] | None = None,
    images: dict[str, int] | None = None,
    players: list[str] | None = None,
    averaged: list[int] | None = None,
    frozen: list[str] | None = None,
) -> Path:
    """Write a job of `rounds` rounds and return its folder.

    `initial`: global parameters that a new training starts from. `images`: training images by site, as far as
    validation has shown them; no site counts as more. `players`: whose losses sites may send; None: any plain name.
    `averaged`: the rounds in which sites send averaged (EMA) weights. `frozen`: names of `initial` that stay.
    """
    known = {names.key(site): n for site, n in (images or {}).items()}
    sites = list(names.keys(sites).values())
    quorum = consortium.enough(sites)
    job = new_job(name, quorum)
    persistor_id = job.to_server(
        Arrays(key=f"{config['name']}-{config['key']}" if "key" in config else ""), id="persistor"
    )
    model = config.get("model", {})
    encryption, robust = (json.dumps(block) if (block := model.get(part)) else "" for part in ("encryption", "robust"))
    coding = json.dumps(compression) if compression and any(compression.values()) else ""
    aggregator = Aggregate(
        json.dumps(algorithm),
        sites,
        quorum,
        encryption,
        coding,
        robust,
        json.dumps(list(known.items())) if known else "",
        players,
        averaged,
        frozen or None,
    )
    controller = Rounds(
        sites=sites,
        quorum=quorum,
        grace_s=consortium.grace_s,
        num_clients=len(sites),
        num_rounds=rounds,
        persistor_id=persistor_id,
        aggregator=aggregator,
        task_check_period=0.1,
    )
    job.to_server(controller)
    return export(job, folder, sites, kind, config, {"initial.safetensors": initial}, thin)
