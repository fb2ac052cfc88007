"""A trained model's folder without a training: what models/<model>/ holds, with the weights of a fresh family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from fedsynth.params import Params
from fedsynth.training import weights


def _round(number: int, seconds: float, north: float, east: float) -> dict[str, Any]:
    sites = {
        "north": {"loss/autoencoder": north, "steps": 3, "weight": 30},
        "east": {"loss/autoencoder": east, "steps": 1, "weight": 10},
    }
    return {"round": number, "seconds": seconds, "sites": sites}


ROUNDS = [_round(0, 1.5, north=1.0, east=2.0), _round(1, 1.0, north=0.5, east=0.1)]


def trained(root: Path, params: Params, model: str = "vae", seed: int = 0) -> dict[str, Any]:
    """Write weights, model.json and history.json, and return what model.json says; another seed is another training."""
    torch.manual_seed(seed)
    folder, block = root / "models" / model, params.models[model].model_dump(mode="json")
    family = params.models[model].family.build(**params.image.context())
    weights.save(folder / weights.FILE, {name: p.detach().numpy() for name, p in family.named_parameters()})
    about = {
        "name": model,
        **block,
        "image": params.image.model_dump(mode="json"),
        "job_id": f"job-{seed}",
        "sites": {"north": 24, "east": "< 5"},
        "digests": {"north": "digest-north", "east": "digest-east"},
        "fedsynth": "0.1.0",
        "weights_sha256": weights.sha256(folder / weights.FILE),
    }
    (folder / weights.ABOUT).write_text(json.dumps(about))
    (folder / "history.json").write_text(json.dumps({"job_id": about["job_id"], "seconds": 2.5, "rounds": ROUNDS}))
    return about
