"""Estimates of the stages' durations and of the disk space of a run, from one timed step of each network.

They are right within a factor of two. Steps are timed with random images and one thread, like that of a site's process
in simulation; the time to start a job is added.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fedsynth.params import Params
from fedsynth.settings import Settings
from fedsynth.stages.plan import AT_ONCE, PRETRAIN, QUICK_S, Plan, plan
from fedsynth.worth.use_networks import uses

if TYPE_CHECKING:
    import torch

JOB_S = 15.0  # of the start and end of a FLARE job
SMALL_S = 8.0  # of a stage with little work
TRIED = 16  # batch size with which sampling is timed
Images = dict[str, tuple[int, int]]  # site -> images, training images


def images_of(root: Path, params: Params, settings: Settings) -> Images:
    """Return the numbers of images by site, of ingested sets or as the source lists them; none if they are unknown.

    In a federation they are unknown, because the images are at the sites.
    """
    from fedsynth.data import manifest

    found: Images = {}
    if not settings.simulation:
        return found
    for path in sorted((root / "data" / "sites").glob(f"*/{manifest.FILE}")):
        rows = manifest.read(path.parent)
        site = str(rows["site"].iloc[0]) if len(rows) else path.parent.name  # the folder is named by its key
        found[site] = (len(rows), int((rows["split"] == "train").sum()))
    return found or _listed(params)


def _listed(params: Params) -> Images:
    """Return the numbers of images by site as the source lists them, before one is read; none if it cannot say."""
    from fedsynth.checks import of_sites

    source, _ = of_sites.opened("source", params.source, of_sites.context(params), look=True)
    # of problems the stage `source` tells; with slices rows are volumes, of which each makes many images
    if source is None or isinstance(getattr(source, "slices", None), dict):
        return {}
    rows = source.listed()
    share = 1 - params.split.val - params.split.test
    weight = rows["split"].map({"train": 1.0, "val": 0.0, "test": 0.0}).fillna(share)
    return {str(site): (len(of), round(float(of.sum()))) for site, of in weight.groupby(rows["site"], sort=False)}


def planned(root: Path, params: Params, settings: Settings, images: Images) -> Plan:
    """Return the plan; steps are timed only for stale stages that have not run with these values, which takes seconds.

    `images`: as from `images_of`.
    """
    made = plan(root, params, settings)
    if new := {line.stage for line in made.stale if not line.from_last_time}:
        return plan(root, params, settings, seconds(params, images, new))
    return made


def seconds(params: Params, images: Images, stages: set[str]) -> dict[str, float]:
    """Return {stage: seconds} of those of `stages` whose work can be estimated.

    None if the numbers of images are unknown, and none of networks where there is a GPU: a step on the CPU says nothing
    of it.
    """
    if not images:
        return {}
    found = {"ingest": SMALL_S + 0.01 * sum(n for n, _ in images.values()), "validate": JOB_S, "report": SMALL_S}
    found |= {f"export@{name}": SMALL_S for name in params.models}
    found |= {PRETRAIN: QUICK_S} if not any(model.pretrain for model in params.models.values()) else {}
    if stages - found.keys():
        import torch

        from fedsynth.networks.device import device

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            found |= _of_networks(params, images, stages) if device().type == "cpu" else {}
        finally:
            torch.set_num_threads(threads)
    return {stage: found[stage] for stage in stages & found.keys()}


def _of_networks(params: Params, images: Images, stages: set[str]) -> dict[str, float]:
    """Return {stage: seconds}. Sites, and stages that run at the same time, share the cores."""
    cores, found = max(1.0, min(os.cpu_count() or 1, AT_ONCE * len(images)) / AT_ONCE), dict[str, float]()
    if any(stage.startswith(("reference", "score@")) for stage in stages):
        one_each = sum(_use_seconds(params).values()) * len(params.score.seeds)
        found["reference"] = 2 * JOB_S + one_each * (2 * len(images) / cores + 1)
        found |= {f"score@{name}": JOB_S + one_each * (1 + len(images) / cores) + SMALL_S for name in params.models}
    asked = _references(params)
    for name, model in params.models.items():
        if not stages & {PRETRAIN, f"train@{name}", f"sample@{name}", *[f"score@{name}"] * bool(asked)}:
            continue
        step, image = _model_seconds(params, name)
        if model.pretrain is not None:  # counted for each model, also where several share one
            found[PRETRAIN] = found.get(PRETRAIN, SMALL_S) + step * model.pretrain.steps
        steps = sum(model.training.steps(n) for _, n in images.values()) * model.training.rounds
        found[f"sample@{name}"] = SMALL_S + image * params.sample.images
        if asked and f"score@{name}" in found:
            halves = sum(model.training.steps(max(1, (n - of) // 2)) for n, of in images.values() if n - of > 1)
            found[f"score@{name}"] += asked * halves * model.training.rounds * step / cores
        if model.privacy is None:  # private steps take several times as long and are not timed
            found[f"train@{name}"] = JOB_S + step * steps / cores
    return found


def _references(params: Params) -> int:
    """Return the number of reference models that a measure trains at each site, on half of its held-out images each."""
    return sum(int(of.args.get("references", 0)) for of in params.score.measures.values())


def _model_seconds(params: Params, name: str) -> tuple[float, float]:
    """Return the seconds of one step of all players with a batch, and of one sampled image."""
    import torch

    model, image = params.models[name], params.image
    family = model.family.build(**image.context())
    players = family.players()
    x, y, given = _batch(params, model.training.batch)

    def step() -> None:
        for player in players:
            family.loss(player, x, y, given).backward()

    _, labels, shown = _batch(params, TRIED)

    def sample() -> None:
        with torch.no_grad():
            family.sample(labels, shown)

    return _timed(step), _timed(sample) / TRIED


def _batch(params: Params, n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    import torch

    image = params.image
    given = torch.rand(n, len(image.given), *image.size) * 2 - 1 if image.given else None
    return torch.rand(n, len(image.generated), *image.size) * 2 - 1, torch.randint(len(image.labels), (n,)), given


def _use_seconds(params: Params) -> dict[str, float]:
    """Return {use: seconds} of training one network."""
    import torch

    image, found = params.image, {}
    for name, use in uses(params).items():
        labels = torch.arange(2 * len(image.labels)) % len(image.labels)
        images = torch.rand(len(labels), len(image.originals), *image.size) * 2 - 1
        masks = torch.ones(len(labels), len(image.masks), *image.size)
        training = use.training(use.network(1), images, masks, labels, seed=1)
        found[name] = _timed(lambda training=training: training.steps(1)) * training.budget.steps  # type: ignore[misc]
    return found


def _timed(work: Callable[[], object]) -> float:
    """Return the seconds of the second of two calls; the first is a warm-up."""
    work()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def disk(params: Params, images: Images) -> int:
    """Return the bytes of a run's files: images, synthetic sets, archives, weights, and the sites' training states."""
    each = 4 * len(params.image.channels) * math.prod(params.image.size)
    real = each * sum(n for n, _ in images.values())
    drawn = each * params.sample.images * (1 + len(params.sample.exporters)) * len(params.models)
    weights = sum(4 * parameters(params, name) for name in params.models)
    return real + drawn + weights * (1 + 3 * len(images))  # a site keeps the parameters and Adam's two moments


def parameters(params: Params, model: str) -> int:
    import torch

    with torch.device("meta"):
        family = params.models[model].family.build(**params.image.context())
    return sum(p.numel() for p in family.parameters())
