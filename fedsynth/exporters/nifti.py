"""NIfTI files and a table: what neuroimaging software reads, with nothing lost of values and spacing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.exporters import Exporter, write_files
from fedsynth.params import Image


class NIfTI(Exporter):
    """`.nii.gz`: image channels as float32 in [-1, 1], masks as 0 or 1; 1 mm where the spacing is unknown; a slice as a
    volume of one.
    """

    def write(self, images: ImageSet, image: Image, folder: Path) -> None:
        write_files(images, image, folder, ".nii.gz", _save)


def _save(path: Path, plane: np.ndarray, kind: str, row: dict[str, Any]) -> None:
    save(path, plane.astype(np.float32) if kind == "image" else (plane > 0).astype(np.uint8), row["spacing_mm"])


def save(path: Path, array: np.ndarray, spacing_mm: str) -> None:
    """An array (*S) as it is; `spacing_mm` as in a manifest, "2x1x1", or empty."""
    import nibabel as nib

    spacing = [float(s) for s in spacing_mm.split("x")] if spacing_mm else [1.0] * array.ndim
    if array.ndim == 2:
        array, spacing = array[None], [1.0, *spacing]
    z, y, x = spacing
    # NIfTI's axes are x to the right, y to the front; an array's columns run to the patient's left and its rows to the
    # back (DICOM).
    nib.save(nib.Nifti1Image(array.T, np.diag([-x, -y, z, 1])), path)
