"""At the centre: train one model over the sites that passed; write its weights, its history and what it is."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

import fedsynth
from fedsynth import outputs, weights
from fedsynth.params import Params
from fedsynth.settings import Settings
from nvflare_jobs import build, centre, federation
from nvflare_jobs.server import GLOBAL

Arrays = dict[str, np.ndarray]


def stage(params: Params, settings: Settings, name: str) -> None:
    if name not in params.models:
        raise centre.StageError(f"params.yaml has no models.{name}; it has {', '.join(params.models)}")
    validation = centre.validated(settings.root)
    sites = validation["used"]
    config = question(params, name, {site: validation["sites"][site]["digest"] for site in sites})
    work = settings.root / ".work" / "train" / name
    kept, start = resumable(work, config["key"])
    initial = begin(params, name)
    job = build.train(work / "job", f"train_{name}", sites, config, config["model"]["algorithm"], kept or initial,
                      params.models[name].training.rounds, start)  # fmt: skip
    if start:
        print(f"train@{name}: goes on from round {start + 1}, where an earlier run of the same training ended", flush=True)
    began = time.monotonic()
    try:
        result = centre.run(f"train@{name}", job, sites, settings, params.models[name].training.rounds)
    except BaseException:
        keep(settings.root / ".work" / "jobs" / f"train-{name}", work, config["key"])
        raise
    final = {n: a for n, a in weights.load(result / GLOBAL).items() if ":" not in n}
    write(settings.root / "models" / name, params, name, final, result, validation, build.token(job), time.monotonic() - began, start)
    forget(work)


def question(params: Params, name: str, digests: dict[str, str]) -> dict[str, Any]:
    """The job's config. `key` names this training: the same params and data give the same key, so that a restart finds its state."""
    config = {"params": centre.public(params), "name": name, "model": params.models[name].model_dump(mode="json"), "digests": digests}
    seen = {k: config["params"][k] for k in ("seed", "image")} | {k: config[k] for k in ("name", "model", "digests")}
    return config | {"key": hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:16]}


def begin(params: Params, name: str) -> Arrays:
    """Initial global parameters by seed, with what the algorithm carries beside them."""
    import torch

    model = params.models[name]
    torch.manual_seed(params.seed)
    family, algorithm = model.family.build(**params.image.context()), model.algorithm.build()
    return algorithm.prepare({n: p.detach().numpy() for n, p in algorithm.parameters(family).items()})


def keep(jobs: Path, work: Path, key: str) -> None:
    """After a run that did not end well: its last global parameters, for the next run of the same training."""
    for path in sorted(jobs.glob(f"*/workspace/server/simulate_job/{GLOBAL}")):
        path.replace(work / f"kept-{key}.safetensors")


def resumable(work: Path, key: str) -> tuple[Arrays | None, int]:
    """Global parameters that an earlier run of the same training left, and the round to go on with."""
    path = work / f"kept-{key}.safetensors"
    if not path.is_file():
        return None, 0
    with safe_open(path, "np") as file:
        done = int(file.metadata()["round"]) + 1
    return weights.load(path), done


def forget(work: Path) -> None:
    for path in work.glob("kept-*.safetensors"):
        path.unlink()


def history(result: Path, job_id: str, seconds: float, start: int) -> dict[str, Any]:
    """The rounds as FLARE wrote them down, each once."""
    rounds = [json.loads(line) for line in (result / federation.ROUNDS).read_text().splitlines()]
    return {"job_id": job_id, "seconds": round(seconds, 1), "resumed_from": start, "rounds": rounds}


def write(folder: Path, params: Params, name: str, arrays: Arrays, result: Path, validation: dict[str, Any], job_id: str, seconds: float,
          start: int) -> None:  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    weights.save(folder / "weights.safetensors", arrays, {"model": name})
    outputs.write(folder / "history.json", history(result, job_id, seconds, start))
    model = params.models[name].model_dump(mode="json")
    facts = {
        "name": name,
        **model,
        "image": params.image.model_dump(mode="json"),
        "seed": params.seed,
        "job_id": job_id,
        "sites": {site: validation["sites"][site]["images"] for site in validation["used"]},
        "digests": {site: validation["sites"][site]["digest"] for site in validation["used"]},
        "fedsynth": fedsynth.__version__,
        "weights_sha256": weights.sha256(folder / "weights.safetensors"),
    }
    outputs.write(folder / "model.json", facts)


if __name__ == "__main__":
    centre.main(lambda params, settings: stage(params, settings, sys.argv[1]))
