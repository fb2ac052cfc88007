"""Feature extractors: the space in which real and synthetic images are compared.

A new extractor is one file here and the block `score.features` of params.yaml. The constructor may ask by name for what
the project knows (`images`, `labels`, `size`); all else are its own arguments. No extractor is downloaded, and none
travels as code to a hospital.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedsynth.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from fedsynth.uses import Use


class ExtractorError(UserError):
    """The features cannot be made here; the message names the network, file or package that is missing and says what to
    do.
    """


class Extractor(ABC):
    """`title` says in words which features these are; it stands beside every number that rests on them."""

    title: str

    @abstractmethod
    def open(self, networks: dict[str, tuple[Use, nn.Module]], folder: Path) -> Extractor:
        """Get ready, and return itself: `networks` are the `federated` ones by use, `folder` is where this machine
        keeps extractor files.

        Raises ExtractorError naming what is missing and what to do.
        """

    @abstractmethod
    def features(self, images: np.ndarray) -> np.ndarray:
        """(N, F) float64 of images (N, I, *S) in [-1, 1]."""


def local_file(folder: Path, name: str, sha256: str) -> bytes:
    """The content of an extractor's file at this machine, once it is known to be the one that params.yaml means.

    Raises ExtractorError naming the file and the folder where it is missing or another one. A name with a path in it is
    refused.
    """
    if Path(name).name != name:
        raise ExtractorError(f"score.features.args.file is the name of a file, without a folder, not {name!r}")
    path = Path(folder) / name
    if not path.is_file():
        raise ExtractorError(
            f"{name} is not in {folder}: put the file there, at the centre and at every site, or take another"
            " score.features"
        )
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256.lower():
        raise ExtractorError(
            f"{path} is not the file that score.features names: its sha256 is {found}, not {sha256}; copy it anew"
        )
    return content


def in_batches(
    net: nn.Module | Callable[[Tensor], Tensor], images: np.ndarray, device: torch.device, batch: int = 64
) -> np.ndarray:
    """(N, F) float64 of `net`, given images (N, ...) by 64, without gradients. Raises ExtractorError for any other
    shape.
    """
    import torch

    parts = []
    with torch.no_grad():
        for start in range(0, len(images), batch):
            found = net(torch.from_numpy(np.ascontiguousarray(images[start : start + batch])).to(device))
            if not isinstance(found, torch.Tensor) or found.ndim != 2:
                raise ExtractorError(
                    "an extractor gives one vector of features for each image (N, F), not"
                    f" {tuple(getattr(found, 'shape', ()))}"
                )
            parts.append(found.double().cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, 0))
