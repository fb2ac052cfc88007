"""The centre's half, two jobs: FedAvg of the uses' networks, then every network on each site's test images."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from fedsynth.data.dataset import ImageSet
from fedsynth.params import Params, names
from fedsynth.settings import Settings
from fedsynth.stages import inputs, reference
from fedsynth.stages.public import fit_public
from fedsynth.training import weights
from fedsynth.training.history import left_out
from fedsynth.worth import use_networks
from nvflare_jobs.centre import build_rounds, jobs, program, rows, show
from nvflare_jobs.server import round_log as written
from nvflare_jobs.server.saved import GLOBAL


def stage(params: Params, settings: Settings) -> None:
    """Write reports/reference.json and data/reference: `local`, `federated`, `public` where params.yaml names such
    images, and, in simulation only, `pooled`.

    `pooled` is trained on all sites' images. `federated_without` in the file lists the sites that were left out of
    rounds, and of which: `federated` then does not quite cover all sites' images.
    """
    started = time.monotonic()
    validation = program.validated_for_training(params, settings.root)
    trained, without = federated(params, settings, validation)
    sent = {"federated": use_networks.from_arrays(trained)}
    if settings.simulation:
        sent["pooled"] = reference.fit_pooled(
            params, {site: ImageSet.load(settings.data / names.key(site)) for site in validation["used"]}
        )
    if public := fit_public(params, validation["used"], settings.root / ".work" / "public"):
        sent["public"] = public
    arrays = {name: a for row, of in sent.items() for name, a in use_networks.to_arrays(of, row).items()}
    weights.save(settings.root / "data" / "reference" / use_networks.FILE, arrays)
    payload = {f"net/{name}": a for name, a in arrays.items()}
    rows.rows(params, settings, "reference", "", payload, {}, started, lambda _: {"federated_without": without})


def federated(
    params: Params, settings: Settings, validation: dict[str, Any]
) -> tuple[use_networks.State, dict[str, str]]:
    """Train the uses' networks by FedAvg.

    Returns their parameters after the last round, and the sites that were left out of rounds: {"north": "2 of 10 rounds
    (3, 4): why"}.
    """
    sites, rounds = validation["used"], params.score.rounds
    digests = {names.key(site): validation["sites"][site]["digest"] for site in sites}
    config = question(params, digests, inputs.code_digest(settings.root, "reference"))
    folder = settings.root / ".work" / "train" / "reference"
    # without "args" FLARE takes the JSON text for an expression
    algorithm = {"class_path": "fedsynth.algorithms.fedavg.FedAvg", "args": {}}
    initial = reference.begin(params)
    job = build_rounds.train(
        folder,
        "reference_fedavg",
        sites,
        params.consortium,
        config,
        algorithm,
        initial,
        rounds,
        settings.thin,
        "reference",
        players=list(params.score.uses),
    )
    result = jobs.run("reference", job, sites, settings, rounds)
    without = left_out({"rounds": written.read(result.folder / written.ROUNDS)})
    if without:
        print(f"{show.WARNING}reference: not in every round of `federated`: {', '.join(sorted(without))}", flush=True)
    return weights.load(Path(result.folder) / GLOBAL), without


def question(params: Params, digests: dict[str, str], code: str = "") -> dict[str, Any]:
    """Return the job's config.

    `key` names this training: equal params, data and code give the same key, so that a restart finds its state.
    """
    config = {"params": program.public(params), "name": "reference", "digests": digests, "rounds": params.score.rounds}
    score = {k: config["params"]["score"][k] for k in ("uses", "seeds", "rounds")}
    seen = {"digests": digests, "image": config["params"]["image"], "score": score}
    seen |= {"code": code} if code else {}  # a training must not continue under other code
    return config | {"key": hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:16]}


if __name__ == "__main__":
    program.main(stage)
