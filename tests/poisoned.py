"""Federated training in one process, with a site that poisons its updates; used by tests and benchmarks/poisoning.py.

The sites are Trainers, the server's half is the aggregator that FLARE runs. The hostile site knows the algorithm and
the rule, has images of its own, and sends updates that can be read: what cannot is tests/jobs/test_hostile_updates.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedsynth.families import Family
from fedsynth.params import Block, Training
from fedsynth.training.trainer import Batch, Trainer
from nvflare_jobs.server.aggregator import Aggregate

Arrays = dict[str, np.ndarray]
Records = list[dict[str, Any]]

HOSTILE = "west"
BOOST = 5.0  # of a backdoor: as many sites as there are, so that a mean becomes the hostile site's model
SIDE = 4  # pixels of the trigger, a bright square in a corner where images have none

RULES = {
    "mean": None,
    "MedianClip": "fedsynth.robust.median_clip.MedianClip",
    "Median": "fedsynth.robust.median.Median",
    "TrimmedMean": "fedsynth.robust.trimmed_mean.TrimmedMean",
    "GeometricMedian": "fedsynth.robust.geometric_median.GeometricMedian",
}
ATTACKS: dict[str, Callable[[Arrays], Arrays]] = {
    "none": lambda d: d,
    "sign": lambda d: {n: -a for n, a in d.items()},
    "sign x 10": lambda d: {n: -10 * a for n, a in d.items()},
    "scaled x 1000": lambda d: {n: 1000 * a for n, a in d.items()},
    "constant": lambda d: {n: np.full_like(a, 0.1) for n, a in d.items()},
    "backdoor": lambda d: {n: BOOST * a for n, a in d.items()},
    "backdoor x 1": lambda d: d,
}


def triggered(x: Tensor, y: Tensor, given: Tensor | None, labels: int) -> Batch:
    """Images with the trigger, and labels that are wrong."""
    x = x.clone()
    x[:, :, :SIDE, :SIDE] = 1.0
    return x, (y + 1) % labels, given


def trigger_in(images: np.ndarray, real: np.ndarray) -> float:
    """How much of the trigger is in images (N, C, H, W): 0 as in real ones, 1 as in triggered ones."""
    seen, usual = (float(a[:, :, :SIDE, :SIDE].mean()) for a in (images, real))
    return (seen - usual) / (1 - usual)


def federate(build: Callable[[], Family], algorithm: dict[str, Any], training: Training, sites: Mapping[str, Batch],
             attack: str, rule: str | None, folder: Path, seed: int = 1) -> tuple[Family, Records]:  # fmt: skip
    """Train over the sites, of which HOSTILE, if it is there, attacks. Returns the model and the rounds' records."""
    block = Block(**algorithm)
    server = Aggregate(json.dumps(algorithm), list(sites), len(sites),
                       robust=json.dumps({"class_path": rule}) if rule else "")  # fmt: skip
    folder.mkdir(parents=True)
    workspace = SimpleNamespace(get_run_dir=lambda _: str(folder))
    server.fl_ctx = SimpleNamespace(
        get_engine=lambda: SimpleNamespace(get_workspace=lambda: workspace), get_job_id=lambda: "1"
    )
    family, trainers = build(), {}
    for k, (site, own) in enumerate(sites.items()):
        poisons = site == HOSTILE and attack.startswith("backdoor")
        shown = triggered(*own, family.labels) if poisons else own  # type: ignore[arg-type]
        trainers[site] = Trainer(build(), block.build(), training, *shown, 100 * seed + k)
    current = server.built.prepare({n: p.detach().numpy().copy() for n, p in server.built.parameters(family).items()})
    for number in range(training.rounds):
        server.begin(number, current, list(sites), {}, number == training.rounds - 1)
        server.reset_stats()
        for k, (site, trainer) in enumerate(trainers.items()):
            torch.manual_seed(1000 * number + 100 * seed + k)  # each process of a site has a random state of its own
            update = trainer.round(current, number)
            sent = ATTACKS[attack](update.difference) if site == HOSTILE else update.difference
            server.accept_model(SimpleNamespace(
                meta={"client_name": site, "weight": update.weight}, params=sent,
                metrics={f"loss/{p}": float(np.nan_to_num(loss)) for p, loss in update.losses.items()},
            ))  # fmt: skip
        change = server.aggregate_model().params
        current = {n: a + change[n] for n, a in current.items()}
    with torch.no_grad():
        for name, parameter in server.built.parameters(family).items():
            parameter.copy_(torch.from_numpy(current[name]))
    return family.eval(), server.records


def draw(family: Family, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of the model, of all classes in turn, and their labels; -1 where the model gives NaN."""
    y = torch.arange(images) % family.labels  # type: ignore[operator]
    with torch.no_grad():
        x = family.sample(y, None, torch.Generator().manual_seed(0))
    return torch.nan_to_num(x, -1.0).numpy(), y.numpy()
