"""Formats in which a synthetic set is handed out. A new exporter is one file here and one block of params.yaml under `sample.exporters`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedsynth.dataset import ImageSet
from fedsynth.manifest import FILE
from fedsynth.params import Image

COPIED = ["label", "site", "subject", "image_id", "split", "origin", "model", "seed"]  # from the set's manifest


class Exporter(ABC):
    @abstractmethod
    def write(self, images: ImageSet, image: Image, folder: Path) -> None:
        """Write every image of the set into `folder` (empty), with a table of them."""


Save = Callable[[Path, np.ndarray, str, dict[str, Any]], None]


def write_files(images: ImageSet, image: Image, folder: Path, ending: str, save: Save) -> None:
    """A file for each channel of each image, and `manifest.csv`, a row for each image channel.

    Files are written by `save(path, array (*S) in [-1, 1], kind of channel, row of the set's manifest)`.

    The table is one that fedsynth.sources.table.Table reads: its `modality` is the channel's name, its `mask` the first mask channel; those
    of further mask channels lie beside it. Rows with a problem have no pixels and are left out.
    """
    for part in ["images"] + ["masks"] * bool(image.masks):
        (folder / part).mkdir(parents=True, exist_ok=True)
    rows = []
    for row, array in zip(images.manifest.to_dict("records"), images.images, strict=True):
        if row["problem"]:
            continue
        names = {c: f"{'images' if c in image.images else 'masks'}/{row['image_id']}-{c}{ending}" for c in image.channels}
        for channel, plane in zip(image.channels, array, strict=True):
            save(folder / names[channel], plane, image.channels[channel], row)
        mask = names[image.masks[0]] if image.masks else ""
        rows += [{"image": names[c], "mask": mask, "modality": c, **{k: row[k] for k in COPIED}} for c in image.images]
    columns = ["image", "mask", "label", "site", "subject", "modality", *COPIED[3:]]
    pd.DataFrame(rows, columns=columns).to_csv(folder / FILE, index=False, lineterminator="\n")
