"""Feature extractors: the feature spaces in which real and synthetic images are compared.

A new extractor is one file in this folder and the block `score.features` of params.yaml. Its constructor may take, by
name, the project's `images`, `labels` and `size`; all other arguments are its own. No extractor is downloaded, and none
is sent as code to a hospital.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedsynth.data.stored import at_once
from fedsynth.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from fedsynth.uses import Use


class ExtractorError(UserError):
    """Features cannot be computed here; the message names the missing network, file or package and says what to do."""


class Extractor(ABC):
    """A feature extractor. `title` describes its features and is shown beside every number that is based on them."""

    title: str

    @abstractmethod
    def open(self, networks: dict[str, tuple[Use, nn.Module]], folder: Path) -> Extractor:
        """Prepare the extractor and return it.

        `networks` are the `federated` networks by use; `folder` is this machine's folder of extractor files. Raises
        ExtractorError naming what is missing and what to do.
        """

    @abstractmethod
    def features(self, images: np.ndarray) -> np.ndarray:
        """Returns features (N, F) float64 of images (N, I, *S) in [-1, 1]."""


def local_file(folder: Path, name: str, sha256: str) -> bytes:
    """Returns the content of an extractor file on this machine, after checking its SHA-256.

    Raises ExtractorError naming the file and the folder if it is missing or has another hash, or if `name` contains a
    path.
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


def in_batches(net: nn.Module | Callable[[Tensor], Tensor], images: np.ndarray, device: torch.device) -> np.ndarray:
    """Returns (N, F) float64 of `net` for images (N, ...), in batches and without gradients.

    Raises ExtractorError if the net returns another shape.
    """
    import torch

    parts, batch = [], at_once(images.shape[2:])
    with torch.no_grad():
        for start in range(0, len(images), batch):
            found = net(torch.from_numpy(np.ascontiguousarray(images[start : start + batch])).to(device))
            if not isinstance(found, torch.Tensor) or found.ndim != 2:
                raise ExtractorError(
                    "an extractor gives one vector of features for each image (N, F), not"
                    f" {tuple(getattr(found, 'shape', ()))}"
                )
            parts.append(found.cpu().double().numpy())  # a GPU of Apple has no float64
    return np.concatenate(parts) if parts else np.zeros((0, 0))
