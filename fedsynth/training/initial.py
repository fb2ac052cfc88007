"""The global parameters that a training begins with: the same at the centre and at every site."""

from __future__ import annotations

import numpy as np
import torch

from fedsynth.params import Image, Model


def initial(model: Model, image: Image, seed: int) -> dict[str, np.ndarray]:
    """Returns the initial global parameters for the seed, with the arrays that the algorithm sends beside them.

    torch's random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        family, algorithm = model.family.build(**image.context()), model.algorithm.build()
    return algorithm.prepare({n: p.detach().numpy() for n, p in algorithm.parameters(family).items()})
