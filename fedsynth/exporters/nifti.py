"""NIfTI files and a table: what neuroimaging software reads, with nothing lost of values and spacing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.exporters import Exporter, write_files
from fedsynth.exporters._files import NOMINAL_MM, said_of_spacing, spacing_of
from fedsynth.params import Image


class NIfTI(Exporter):
    """`.nii.gz`: image channels as float32 in [-1, 1], masks as 0 or 1; a slice as a volume of one.

    Where the spacing is unknown 1 mm is written, and the header's `descrip` says that it is nominal; so is the
    thickness of a slice.
    """

    def write(self, images: ImageSet, image: Image, folder: Path) -> None:
        write_files(images, image, folder, ".nii.gz", _save)

    def layout(self, image: Image) -> dict[str, str]:
        return super().layout(image) | {".nii.gz": NOMINAL}


NOMINAL = f"in mm: spacing_mm of manifest.csv, or, where that is empty, {NOMINAL_MM:g} mm, which is nominal"


def _save(path: Path, plane: np.ndarray, kind: str, row: dict[str, Any]) -> None:
    save(path, plane.astype(np.float32) if kind == "image" else (plane > 0).astype(np.uint8), row)


def save(path: Path, array: np.ndarray, row: dict[str, Any]) -> None:
    """An array (*S) with the spacing of its row of a manifest."""
    import nibabel as nib

    spacing = spacing_of(row, array.ndim)
    if array.ndim == 2:
        array, spacing = array[None], [NOMINAL_MM, *spacing]
    z, y, x = spacing
    # NIfTI's axes are x to the right, y to the front; an array's columns run to the patient's left and its rows to the
    # back (DICOM).
    affine = np.diag([-x, -y, z, 1])
    volume = nib.Nifti1Image(array.T, affine)
    volume.set_sform(affine, code="scanner")
    volume.set_qform(affine, code="scanner")  # some readers look at this one alone
    volume.header.set_xyzt_units("mm")
    volume.header["descrip"] = f"{row['origin']}; {said_of_spacing(row)}"[:79]
    nib.save(volume, path)
