"""A frozen extractor that ships with the package: its features are the same in every run, site and study."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsynth.features import Extractor, ExtractorError, in_batches
from fedsynth.networks.device import device

if TYPE_CHECKING:
    from fedsynth.uses import Use

FILE = "frozen.safetensors"  # made by benchmarks/train_extractor.py
SHA256 = "1f6f2ae50487fda9b6c72c81376ca9505d02ad6c1105dba828bdb65ec8e6aeb8"
WIDTHS = (8, 16, 32, 48)  # channels of the convolutions
UNITS = 24  # of one channel of an image, before they are brought to `features`
SLICES = 6  # of a volume along each axis


class Network(nn.Module):
    """One channel (B, 1, H, W) in [-1, 1] -> (B, UNITS).

    Means and logarithms of the spread of responses at full, half and a quarter of the resolution. The first two
    convolutions have no stride, and nothing is standardised: noise, a grid of pixels and a slight blur show.
    """

    def __init__(self) -> None:
        super().__init__()
        places = zip((1, *WIDTHS), WIDTHS, strict=False)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, padding_mode="reflect") for a, b in places)
        self.last = nn.Linear(2 * sum(WIDTHS[1:]), UNITS)

    def forward(self, x: Tensor) -> Tensor:
        found: list[Tensor] = []
        for level, convolution in enumerate(self.convolutions):
            x = F.relu(convolution(F.avg_pool2d(x, 2) if level > 1 else x))
            found += [x.mean((2, 3)), (x.var((2, 3), correction=0) + 1e-4).log() / 2] if level else []
        return self.last(torch.cat(found, 1))


class Frozen(Extractor):
    """Features (N, `features`) of a small network that was trained on procedural textures and shapes alone.

    It has seen no image of a patient, and is the same file everywhere: so FID, KID, precision and recall in its space
    can be compared between runs, sites and studies of the same number of image channels. Each channel is passed on its
    own; the units of all channels, standardised by what they are of procedural images, are brought to `features` by
    fixed random weights (Johnson & Lindenstrauss 1984), because a covariance needs more images than features. Of a
    volume, SLICES evenly spaced slices along each axis are passed, and their units averaged.
    """

    def __init__(self, features: int = 8):
        if features < 1:
            raise ExtractorError(f"features must be 1 or more, not {features}")
        self.dimensions = features
        self.title = f"frozen network of procedural textures and shapes, sha256 {SHA256[:12]}, {features} features"

    def open(self, networks: dict[str, tuple[Use, nn.Module]], folder: Path) -> Frozen:
        self.net, self.mean, self.spread = loaded()
        self.device = device()
        self.net.to(self.device)
        return self

    def features(self, images: np.ndarray) -> np.ndarray:
        channels = [self._units(images[:, c : c + 1]) for c in range(images.shape[1])]
        units = np.concatenate(channels, axis=1) if channels else np.zeros((len(images), 0))
        return units @ mixture(units.shape[1], self.dimensions)

    def _units(self, images: np.ndarray) -> np.ndarray:
        """(N, UNITS) of one channel (N, 1, *S)."""
        if not len(images):
            return np.zeros((0, UNITS))
        found = [in_batches(self.net, _at_least(of), self.device) for of in slices(images)]
        return (np.mean(found, axis=0) - self.mean) / self.spread


def slices(images: np.ndarray) -> list[np.ndarray]:
    """The slices (N, 1, H, W) of volumes (N, 1, D, H, W): evenly spaced along each axis, ends left out. Images stay."""
    if images.ndim == 4:
        return [images]
    found = []
    for axis in range(2, images.ndim):
        places = np.unique(np.linspace(0, images.shape[axis] - 1, SLICES + 2).round().astype(int)[1:-1])
        found += [images.take(place, axis) for place in places]
    return found


def _at_least(images: np.ndarray, size: int = 8) -> np.ndarray:
    """Images that are at least so large along each axis, by mirroring: there are four resolutions."""
    lacking = [(0, 0), (0, 0), *((0, max(0, size - n)) for n in images.shape[2:])]
    return np.pad(images, lacking, "symmetric") if any(n for _, n in lacking) else images


def mixture(units: int, features: int) -> np.ndarray:
    """(units, features) fixed random weights, of which each feature of standardised units has the variance 1."""
    return np.random.default_rng([units, features]).normal(size=(units, features)) / np.sqrt(max(units, 1))


@cache
def loaded() -> tuple[nn.Module, np.ndarray, np.ndarray]:
    """The network, and the mean and spread (UNITS,) of its units of procedural images. Raises ExtractorError."""
    from safetensors.torch import load

    path = Path(__file__).with_name(FILE)
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ExtractorError(f"{path} is not the file that comes with this version of fedsynth; install it anew")
    arrays = load(content)
    mean, spread = (arrays.pop(name).double().numpy() for name in ("mean", "spread"))
    net = Network()
    net.load_state_dict(arrays)
    return net.eval(), mean, spread
