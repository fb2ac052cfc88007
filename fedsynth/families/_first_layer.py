"""The largest share of an image that one unit of a layer sees directly: with all of it, one division gives the image.

The weight gradient of such a unit is its bias gradient times the image (tests/attacks/division.py), so a hospital's
policy refuses families of which one unit sees too much.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsynth.families import Family
from fedsynth.networks.device import random_devices
from fedsynth.params import Image

CONVOLVE: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
}
Inputs = list[tuple[nn.Module, Tensor]]  # layers in the order of their calls, with what they were given


def first_layer_share(family: Family, image: Image) -> float:
    """Returns the largest share (0 to 1) of an image's values that one unit of a layer sees directly.

    Directly: not through another layer with weights. The share is of the values of all generated and given channels; a
    convolution's unit sees those in its window (kernel x patch pixels on a side), a linear layer's unit its whole
    input. Every player's loss is computed twice, on other images and with the same random numbers: what differs in the
    input of a layer is the image. The family and torch's random state are left as they were. Takes as long as four
    losses of an image.
    """
    one, other = (_inputs(family, image, seed) for seed in (0, 1))
    values = len(image.generated) + len(image.given)
    for side in image.size:
        values *= side
    seen = [_most(layer, (a != b).float()) for (layer, a), (_, b) in zip(one, other, strict=True)]
    return min(1.0, max(seen, default=0.0) / values)


def _inputs(family: Family, image: Image, seed: int) -> Inputs:
    """Returns the inputs of all layers with weights, whose outputs are 0, so that nothing of the image passes them."""
    found: Inputs = []

    def silence(layer: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
        found.extend((layer, value.detach().clone()) for value in given if isinstance(value, Tensor))
        return output * 0 if isinstance(output, Tensor) else tuple(None if o is None else o * 0 for o in output)

    hooks = [layer.register_forward_hook(silence) for layer in family.modules() if _weighs(layer)]
    device = next(family.parameters()).device
    pixels = torch.Generator().manual_seed(seed)
    x, given = (  # two images, because norms refuse a single value
        (torch.rand((2, len(of), *image.size), generator=pixels) * 2 - 1).to(device)
        for of in (image.generated, image.given)
    )
    try:
        with torch.random.fork_rng(devices=random_devices(device)):
            for player in family.players():
                torch.manual_seed(0)
                family.loss(player, x, torch.zeros(2, dtype=torch.long, device=device), given if image.given else None)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _weighs(layer: nn.Module) -> bool:
    """Whether a layer has a matrix of weights of its own; norms, which have a number for each channel, have not."""
    return any(p.ndim > 1 for p in layer.parameters(recurse=False))


def _most(layer: nn.Module, of_image: Tensor) -> float:
    """Returns the largest number of values of the image that a unit sees; `of_image`: 1 where the input is of it."""
    convolve = CONVOLVE.get(type(layer))
    if convolve is None:  # a linear layer sees the last axis; of any other, all is counted
        return float(of_image.sum(-1).max() if isinstance(layer, nn.Linear) else of_image.sum())
    one = of_image.sum(1, keepdim=True)
    size: tuple[int, ...] = layer.kernel_size  # type: ignore[assignment]
    kernel = torch.ones((1, 1, *size), device=one.device)
    return float(convolve(one, kernel, None, layer.stride, layer.padding, layer.dilation).max())
