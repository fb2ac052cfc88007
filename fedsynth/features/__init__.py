"""The space in which images are compared: an extractor turns images into feature vectors, and says which one it is.

A new extractor is one file here and the block `score.features` of params.yaml. The constructor may ask by name for what the project knows
(`images`, `labels`, `size`); all else are its own arguments. No extractor is downloaded, and none travels as code to a hospital.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn

    from fedsynth.uses import Use


class Extractor(ABC):
    """`title` says in words which features these are; it stands beside every number that rests on them."""

    title: str

    @abstractmethod
    def open(self, networks: dict[str, tuple[Use, nn.Module]], folder: Path) -> Extractor:
        """Get ready, and return itself: `networks` are the `federated` ones by use, `folder` is where this machine keeps extractor files.

        Raises ExtractorError naming what is missing and what to do.
        """

    @abstractmethod
    def features(self, images: np.ndarray) -> np.ndarray:
        """(N, F) float64 of images (N, I, *S) in [-1, 1]."""
