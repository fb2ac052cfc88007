"""PNG files and tables: what any viewer opens, any script reads, and Hugging Face loads. Slices only."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from fedsynth.data.dataset import ImageSet
from fedsynth.exporters import Exporter, Written, gray, place_of, write_files
from fedsynth.params import Image, ParamsError

ABOUT = "metadata.csv"
TOLD = ("image_id", "subject", "origin", "model", "seed")


class PNG(Exporter):
    """8-bit gray: an image channel's [-1, 1] becomes 0 to 255, a mask is 0 or 255. Raises ParamsError for volumes.

    `metadata.csv` has a row for each image, as `datasets.load_dataset("imagefolder", data_dir=…)` reads it: columns
    `image` and `mask` (the first channel of each kind), where there are several of a kind one column for each channel,
    by its name, and `label` with its number `class`.
    """

    def write(self, images: ImageSet, image: Image, folder: Path) -> None:
        if len(image.size) != 2:
            raise ParamsError(
                f"PNG holds slices, but image.size is {list(image.size)}; export volumes with"
                " fedsynth.exporters.nifti.NIfTI"
            )
        written = write_files(
            images, image, folder, ".png", lambda path, plane, kind, row: save(path, plane), about=ABOUT
        )
        _metadata(image, written).to_csv(folder / ABOUT, index=False, lineterminator="\n")

    def layout(self, image: Image) -> dict[str, str]:
        what = 'a row for each image, for load_dataset("imagefolder", data_dir=this folder)'
        return super().layout(image) | {ABOUT: what}


def save(to: Path | BinaryIO, plane: np.ndarray) -> None:
    """A plane (H, W) in [-1, 1] as an 8-bit gray PNG."""
    from PIL import Image as Pillow

    Pillow.fromarray(gray(plane)).save(to, format="PNG")


def _metadata(image: Image, written: Written) -> pd.DataFrame:
    """Hugging Face makes an image `x` of a column `x_file_name`, and `image` of `file_name`."""
    columns = {"file_name": image.images[0]} | ({"mask_file_name": image.masks[0]} if image.masks else {})
    told = {"image", "mask", "label", "class", *TOLD}
    for names in (image.images, image.masks):
        several = names if len(names) > 1 else []
        columns |= {f"{c}_channel_file_name" if c in told else f"{c}_file_name": c for c in several}
    table: list[dict[str, Any]] = [
        {column: files[c] for column, c in columns.items()}
        | {"label": row["label"], "class": place_of(image, row)}
        | {name: row[name] for name in TOLD}
        for row, files in written
    ]
    return pd.DataFrame(table, columns=[*columns, "label", "class", *TOLD])
