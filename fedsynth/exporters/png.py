"""PNG files and a table: what any viewer opens and any script reads. Slices only."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.exporters import Exporter, gray, write_files
from fedsynth.params import Image, ParamsError


class PNG(Exporter):
    """8-bit gray: an image channel's [-1, 1] becomes 0 to 255, a mask is 0 or 255. Raises ParamsError for volumes."""

    def write(self, images: ImageSet, image: Image, folder: Path) -> None:
        if len(image.size) != 2:
            raise ParamsError(
                f"PNG holds slices, but image.size is {list(image.size)}; export volumes with"
                " fedsynth.exporters.nifti.NIfTI"
            )
        write_files(images, image, folder, ".png", lambda path, plane, kind, row: save(path, plane))


def save(to: Path | BinaryIO, plane: np.ndarray) -> None:
    """A plane (H, W) in [-1, 1] as an 8-bit gray PNG."""
    from PIL import Image as Pillow

    Pillow.fromarray(gray(plane)).save(to, format="PNG")
