"""The networks behind the table of worth: who trains what on which images, and tests it where.

No FLARE here: nvflare_jobs/score/ carries it.

`networks` below are {use: {seed: state}}, a state being the arrays of a network by parameter name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.dataset import ImageSet, concatenate
from fedsynth.params import Params
from fedsynth.uses import Use

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

State = dict[str, np.ndarray]
Networks = dict[str, dict[int, State]]
Rows = list[dict[str, Any]]

REAL_SHARE = 0.5  # of what `augmented` draws within a class; the rest is synthetic


def uses(params: Params) -> dict[str, Use]:
    return {name: block.build(**params.image.context()) for name, block in params.score.uses.items()}


def training(real: ImageSet) -> ImageSet:
    """All that any network may be trained on: the training split. The one place where the table's rows get their real images from."""
    return _sound(real.split("train"))


def testing(real: ImageSet) -> ImageSet:
    """What every row of the table is tested on. Raises ValueError for synthetic images: a set must not be judged by itself."""
    test = _sound(real.split("test"))
    if (test.manifest["origin"] != "real").any():
        raise ValueError("the test split holds synthetic images; worth is measured on real ones only")
    return test


def _sound(images: ImageSet) -> ImageSet:
    """Without the rows that have a problem: their arrays are zeros."""
    return images.where(images.manifest["problem"] == "")


def fit_pooled(params: Params, sets: dict[str, ImageSet]) -> Networks:
    """Networks on all sites' training images together. In simulation only: nobody may pool images of hospitals."""
    together = concatenate([training(real) for real in sets.values()])
    return {name: {seed: _fit(use, params, together, seed) for seed in params.score.seeds} for name, use in uses(params).items()}


def fit_synthetic(params: Params, synthetic: ImageSet, seed: int) -> dict[str, State]:
    """use -> network on the synthetic set alone (train on synthetic, test on real: Esteban et al. 2017, arXiv:1706.02633)."""
    return {name: _fit(use, params, synthetic, seed) for name, use in uses(params).items()}


def reference_at_site(params: Params, site: str, real: ImageSet, pooled: Networks) -> Rows:
    """`local`, trained here, and `pooled`, sent by the centre, on the site's test images."""
    rows = []
    for name, use in uses(params).items():
        for seed in params.score.seeds:
            rows.append(_row(use, params, real, _fit(use, params, training(real), seed), name, "local", site, "", site, seed))
            if name in pooled:
                rows.append(_row(use, params, real, pooled[name][seed], name, "pooled", "all", "", site, seed))
    return rows


def score_at_site(params: Params, site: str, real: ImageSet, synthetic: ImageSet, networks: Networks, model: str) -> Rows:
    """`synthetic`, sent by the centre, and `augmented`, trained here on own and synthetic images, on the site's test images."""
    rows, both = [], concatenate([training(real), synthetic])
    weights = balance(both, len(training(real)))
    for name, use in uses(params).items():
        for seed in params.score.seeds:
            rows.append(_row(use, params, real, networks[name][seed], name, "synthetic", model, model, site, seed))
            rows.append(_row(use, params, real, _fit(use, params, both, seed, weights), name, "augmented", site, model, site, seed))
    return rows


def balance(both: ImageSet, n_real: int) -> Tensor:
    """(N,) how often each image is drawn: within a class, real ones (the first `n_real`) get REAL_SHARE, synthetic ones the rest."""
    import torch

    labels = both.manifest["label"].to_numpy()
    is_real = np.arange(len(labels)) < n_real
    weights = np.zeros(len(labels))
    for label in set(labels):
        for part, share in ((is_real, REAL_SHARE), (~is_real, 1 - REAL_SHARE)):
            if (chosen := part & (labels == label)).any():
                weights[chosen] = share / chosen.sum()
    return torch.from_numpy(weights)


def _tensors(params: Params, images: ImageSet) -> tuple[Tensor, Tensor, Tensor]:
    import torch

    image = params.image
    parts = images.channels(image, image.images), images.channels(image, image.masks), images.labels(image)
    return torch.tensor(parts[0]), torch.tensor(parts[1]), torch.tensor(parts[2])


def _fit(use: Use, params: Params, images: ImageSet, seed: int, weights: torch.Tensor | None = None) -> State:
    net = use.fit(*_tensors(params, images), seed=seed, weights=weights)
    return {name: value.detach().cpu().numpy() for name, value in net.state_dict().items()}


def _network(use: Use, state: State, seed: int) -> nn.Module:
    import torch

    net = use.network(seed)
    net.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in state.items()})
    return net.eval()


def _row(use: Use, params: Params, real: ImageSet, state: State, name: str, kind: str, trained_on: str, model: str, site: str,
         seed: int) -> dict[str, Any]:  # fmt: skip
    metrics, n = use.score(_network(use, state, seed), *_tensors(params, testing(real)))
    first = [use.headline, *(m for m in metrics if m != use.headline)]  # the table of worth is about the first
    shown = {m: None if np.isnan(metrics[m]) else round(float(metrics[m]), 6) for m in first}
    return {"use": name, "name": kind, "trained_on": trained_on, "model": model, "site": site, "seed": seed, "metrics": shown, "n": n}


def to_arrays(networks: Networks) -> State:
    """As flat arrays that travel: "<use>/<seed>/<parameter>"."""
    return {f"{use}/{seed}/{name}": a for use, seeds in networks.items() for seed, state in seeds.items() for name, a in state.items()}


def from_arrays(arrays: State) -> Networks:
    networks: Networks = {}
    for use, seed, name, array in _split(arrays):
        networks.setdefault(use, {}).setdefault(seed, {})[name] = array
    return networks


def _split(arrays: State) -> Iterator[tuple[str, int, str, np.ndarray]]:
    for key, array in arrays.items():
        use, seed, name = key.split("/", 2)
        yield use, int(seed), name, array
