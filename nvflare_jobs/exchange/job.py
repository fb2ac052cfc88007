"""At the centre: the job of a training whose generator is there. What the stage `train` does before and after is as for all others."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.params import Params, Training
from nvflare_jobs import build

Counts = dict[str, dict[str, int | str]]  # class -> split -> images, as validation shows them: "< 5" where they are few


def prepare(folder: Path, params: Params, name: str, config: dict[str, Any], validation: dict[str, Any], thin: bool) -> Path:
    """The job's folder. Raises UserError where the family, the given channels or a mechanism of privacy do not go with the algorithm."""
    model, sites = params.models[name], validation["used"]
    algorithm = model.algorithm.build()
    initial = begin(params, name)
    counts = {site: [shown(validation["sites"][site]["counts"], label) for label in params.image.labels] for site in sites}
    weights = {site: float(sum(of)) for site, of in counts.items()}
    counts_as = weights if algorithm.weighting == "images" else dict.fromkeys(sites, 1.0)
    more = {"steps": steps(model.training, list(weights.values())), "centre": {"images": weights, "weights": counts_as, "shares": counts}}
    return build.exchange(folder, f"train_{name}", sites, params.consortium, config | more, algorithm.call_s, initial, thin)


def begin(params: Params, name: str) -> dict[str, np.ndarray]:
    """The generator's initial parameters, by seed."""
    import torch

    model = params.models[name]
    torch.manual_seed(params.seed)
    family, algorithm = model.family.build(**params.image.context()), model.algorithm.build()
    algorithm.check(family, params.image.given, model.privacy is not None)
    return {n: p.detach().numpy() for n, p in algorithm.parameters(family).items()}


def shown(counts: Counts, label: str) -> int:
    """Training images of a class, as far as the centre knows: a small cell counts as one, so that the class is asked for now and then."""
    n = counts[label]["train"]
    return n if isinstance(n, int) else 1


def steps(training: Training, images: list[float]) -> int:
    """Of a round: `epochs` over as many images as a site has on the average."""
    return max(1, math.ceil(training.epochs * sum(images) / len(images) / training.batch))
