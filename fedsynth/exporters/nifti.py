"""NIfTI files and a table: what neuroimaging software reads, with nothing lost of values and spacing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.dataset import ImageSet
from fedsynth.exporters import Exporter, write_files
from fedsynth.params import Image


class NIfTI(Exporter):
    """`.nii.gz`: image channels as float32 in [-1, 1], masks as 0 or 1; 1 mm where the spacing is unknown; a slice as a volume of one."""

    def write(self, images: ImageSet, image: Image, folder: Path) -> None:
        write_files(images, image, folder, ".nii.gz", _save)


def _save(path: Path, plane: np.ndarray, kind: str, row: dict[str, Any]) -> None:
    import nibabel as nib

    array = plane.astype(np.float32) if kind == "image" else (plane > 0).astype(np.uint8)
    spacing = [float(s) for s in row["spacing_mm"].split("x")] if row["spacing_mm"] else [1.0] * array.ndim
    if array.ndim == 2:
        array, spacing = array[None], [1.0, *spacing]
    z, y, x = spacing
    # NIfTI's axes are x to the right, y to the front; an array's columns run to the patient's left and its rows to the back (DICOM).
    nib.save(nib.Nifti1Image(array.T, np.diag([-x, -y, z, 1])), path)
