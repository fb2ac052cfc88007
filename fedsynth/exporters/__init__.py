"""Formats in which a synthetic set is handed out. A new exporter is one file here and one block of params.yaml under `sample.exporters`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from fedsynth.dataset import ImageSet
from fedsynth.params import Image


class Exporter(ABC):
    @abstractmethod
    def write(self, images: ImageSet, image: Image, folder: Path) -> None:
        """Write every image of the set into `folder` (empty), with a table of them."""
