"""The global parameters that a training begins with: the same at the centre and at every site."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from fedsynth.families import Family, freeze
from fedsynth.params import Image, Model


def built(model: Model, image: Image) -> Family:
    """Returns the model's family, of which only what is `trainable` is trained."""
    return freeze(model.family.build(**image.context()), model.trainable)


def initial(
    model: Model, image: Image, seed: int, start: Mapping[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Returns the global parameters to begin with, and the arrays that the algorithm sends beside them.

    They are those that the seed gives, with `start` in the place of parameters of these names. Frozen parameters are
    among them. torch's random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        family, algorithm = built(model, image), model.algorithm.build()
    begun = dict(start or {})
    exchanged = {n: begun.get(n, p.detach().numpy()) for n, p in algorithm.parameters(family).items()}
    return algorithm.prepare(exchanged) | {n: begun.get(n, a) for n, a in frozen(model, family).items()}


def frozen(model: Model, family: Family) -> dict[str, np.ndarray]:
    """Returns the parameters that are sent to each site once and never come back, by name."""
    if not family.frozen:
        return {}
    sent = model.algorithm.build().sent(family)
    return {name: p.detach().numpy() for name, p in sent.items() if name in family.frozen}
