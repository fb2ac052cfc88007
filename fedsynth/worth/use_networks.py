"""Networks of the downstream uses: their training and test images, fitting, and conversion to flat arrays.

`Networks` is {use: {seed: state}}; a state holds a network's arrays by parameter name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.params import Image, Params
from fedsynth.training import weights as files
from fedsynth.uses import Use

if TYPE_CHECKING:
    from torch import Tensor, nn

State = dict[str, np.ndarray]
Networks = dict[str, dict[int, State]]

FILE = "networks.safetensors"  # in data/reference: "federated/<use>/<seed>/<parameter>", and "pooled/..." in simulation

SHARES = (0.25, 0.1, 0.5, 0.75)  # of real images in the training of `augmented` that a site chooses from


def uses(params: Params) -> dict[str, Use]:
    return {name: block.build(**params.image.context()) for name, block in params.score.uses.items()}


def training(real: ImageSet) -> ImageSet:
    """Return the usable images of the training split, the only real images that a network may be trained on.

    All rows of the table get their real images from this function.
    """
    return _sound(real.split("train"))


def testing(real: ImageSet) -> ImageSet:
    """Return the usable images of the test split, on which every row of the table is tested.

    Raises ValueError for synthetic images, because a set must not be tested on itself.
    """
    test = _sound(real.split("test"))
    if (test.manifest["origin"] != "real").any():
        raise ValueError("the test split holds synthetic images; worth is measured on real ones only")
    return test


def choosing(real: ImageSet) -> ImageSet:
    """Return the usable images of the validation split, on which settings are chosen: never on those of the test."""
    return _sound(real.split("val"))


def held_out(real: ImageSet) -> ImageSet:
    """Return the usable images of val and test, on which no model and no network was trained.

    The measures compare a synthetic set with them.
    """
    return _sound(real.where(real.manifest["split"] != "train"))


def _sound(images: ImageSet) -> ImageSet:
    """Return the images without those that have a problem, whose arrays are zeros."""
    return images.where(images.manifest["problem"] == "")


def fit(use: Use, params: Params, images: ImageSet, seed: int, weights: np.ndarray | None = None) -> State:
    shown, often = with_modality_dropout(images, params.image, weights)
    return state_of(use.fit(*shown.tensors(params.image), seed=seed, weights=often))


def with_modality_dropout(
    images: ImageSet, image: Image, weights: np.ndarray | None = None
) -> tuple[ImageSet, Tensor | None]:
    """Return the training images of a network, and the weights with which they are drawn.

    For each channel in `image.may_lack`, a copy without it is added for every image that has it; an image and its
    copies are drawn as often together as the image alone. Sites may lack a channel, and a synthetic set has all (after
    ModDrop, Neverova et al. 2016, doi:10.1109/TPAMI.2015.2461544).
    """
    import torch

    lacking = [name for name in image.may_lack if name in image.images]
    if not lacking:
        return images, None if weights is None else torch.from_numpy(weights)
    have = {name: images.has(image, name) for name in lacking}
    copies = [images, *(images.where(those).without(image, [name]) for name, those in have.items())]
    places = np.concatenate([np.arange(len(images)), *map(np.flatnonzero, have.values())])
    often = (np.ones(len(images)) if weights is None else weights) / np.bincount(places, minlength=len(images))
    return concatenate(copies), torch.from_numpy(often[places])


def state_of(net: nn.Module) -> State:
    return {name: value.detach().cpu().numpy().copy() for name, value in net.state_dict().items()}


def network(use: Use, state: State, seed: int) -> nn.Module:
    """Return a network in evaluation mode, on the device, with the parameters of `state`."""
    import torch

    from fedsynth.networks.device import device

    net = use.network(seed)
    net.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in state.items()})
    return net.eval().to(device())


def federated(params: Params, root: Path) -> dict[str, tuple[Use, nn.Module]]:
    """Return use -> its `federated` network for the first seed, from data/reference under `root`.

    In a real federation, these are the only networks trained on real images that the centre may have.
    """
    arrays = files.load(Path(root) / "data" / "reference" / FILE)
    found, seed = of_row(arrays, "federated"), params.score.seeds[0]
    return {name: (use, network(use, found[name][seed], seed)) for name, use in uses(params).items()}


def of_row(arrays: State, row: str) -> Networks:
    """Return the networks of one row from arrays named "<row>/<use>/<seed>/<parameter>"."""
    return from_arrays(
        {name.removeprefix(f"{row}/"): array for name, array in arrays.items() if name.startswith(f"{row}/")}
    )


def by_row(arrays: State) -> dict[str, Networks]:
    """Return row -> networks, in the order in which the rows first appear."""
    return {row: of_row(arrays, row) for row in dict.fromkeys(name.split("/", 1)[0] for name in arrays)}


def to_arrays(networks: Networks, row: str = "") -> State:
    """Return flat arrays named "<use>/<seed>/<parameter>", with "<row>/" in front if a row is given."""
    start = f"{row}/" if row else ""
    return {
        f"{start}{use}/{seed}/{name}": a
        for use, seeds in networks.items()
        for seed, state in seeds.items()
        for name, a in state.items()
    }


def from_arrays(arrays: State) -> Networks:
    """Return the networks of arrays named "<use>/<seed>/<parameter>"."""
    networks: Networks = {}
    for use, seed, name, array in _split(arrays):
        networks.setdefault(use, {}).setdefault(seed, {})[name] = array
    return networks


def _split(arrays: State) -> Iterator[tuple[str, int, str, np.ndarray]]:
    for key, array in arrays.items():
        use, seed, name = key.split("/", 2)
        yield use, int(seed), name, array
