"""Formats in which a synthetic set is handed out. A new exporter is one file here and one block of params.yaml under
`sample.exporters`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedsynth.data.dataset import ImageSet
from fedsynth.data.manifest import FILE
from fedsynth.exporters._files import stems
from fedsynth.params import Block, Image

COPIED = ["label", "site", "subject", "image_id", "split", "origin", "model", "seed"]  # from the set's manifest
# of the exported table; `class` is the label's place in `image.labels`
COLUMNS = ["image", "mask", "label", "site", "subject", "modality", *COPIED[3:], "class", "spacing_mm"]


class Exporter(ABC):
    @abstractmethod
    def write(self, images: ImageSet, image: Image, folder: Path) -> None:
        """Write every image of the set into `folder` (empty), with a table of them. Rows with a problem have no pixels
        and are left out.
        """

    def source(self, image: Image, folder: Path) -> Block:
        """The source that reads again what `write` has put into `folder` (its tar files, if any, unpacked there)."""
        return Block(class_path="fedsynth.sources.table.Table", args={"folder": str(folder)})

    def layout(self, image: Image) -> dict[str, str]:
        """What each file is, for the datasheet; that of `manifest.csv` is said there."""
        files = {"images/": "one file for each image and image channel: <image_id>-<channel>"}
        return files | (
            {"masks/": "one file for each image and mask channel: <image_id>-<channel>"} if image.masks else {}
        )


Save = Callable[[Path, np.ndarray, str, dict[str, Any]], None]
Written = list[tuple[dict[str, Any], dict[str, str]]]


def write_files(images: ImageSet, image: Image, folder: Path, ending: str, save: Save, **more: Any) -> Written:
    """A file for each channel of each image, and `manifest.csv`, a row for each image channel, with `more` columns.

    Files are written by `save(path, array (*S) in [-1, 1], kind of channel, row of the set's manifest)`. Returns of
    each image its row of the set's manifest and the file of each channel, relative to `folder`.
    """
    for part in ["images"] + ["masks"] * bool(image.masks):
        (folder / part).mkdir(parents=True, exist_ok=True)
    found = usable(images)
    ids = stems(found.manifest["image_id"], split_words=False)
    channels = stems(image.channels, split_words=False)
    written = []
    for row, array in each(found):
        names = {
            c: f"{'images' if c in image.images else 'masks'}/{ids[row['image_id']]}-{part}{ending}"
            for c, part in channels.items()
        }
        for channel, plane in zip(image.channels, array, strict=True):
            save(folder / names[channel], plane, image.channels[channel], row)
        written.append((row, names))
    write_table(folder, [line for row, names in written for line in rows(image, row, names, **more)])
    return written


def usable(images: ImageSet) -> ImageSet:
    """The images without a problem."""
    good = images.manifest["problem"] == ""
    return images if good.all() else images.where(good)


def each(images: ImageSet) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """The manifest's row and the array (C, *S) of each image, one after the other: a large set stays on disk."""
    return zip(images.manifest.to_dict("records"), images.images, strict=True)


def rows(image: Image, row: dict[str, Any], files: dict[str, str], **more: Any) -> list[dict[str, Any]]:
    """The table's rows of one image, one for each image channel; `files` names each channel's file, `more` are further
    columns.

    They are what fedsynth.sources.table.Table reads: `modality` is the channel's name, `mask` the first mask channel's
    file. Where there are several mask channels, each has a column `mask_<channel>`, too.
    """
    masks = {f"mask_{c}": files[c] for c in image.masks if len(image.masks) > 1}
    about = {k: row[k] for k in COPIED} | {"class": place_of(image, row), "spacing_mm": row["spacing_mm"]}
    about |= {"mask": files[image.masks[0]] if image.masks else ""} | masks | more
    return [{"image": files[c], "modality": c, **about} for c in image.images]


def place_of(image: Image, row: dict[str, Any]) -> int:
    """The number of a row's label: its place in `image.labels`."""
    return image.labels.index(row["label"])


def write_table(folder: Path, table: list[dict[str, Any]]) -> None:
    """`manifest.csv` with `COLUMNS` first and then what else the rows have."""
    columns = dict.fromkeys([*COLUMNS, *(name for row in table[:1] for name in row)])
    pd.DataFrame(table, columns=list(columns)).to_csv(folder / FILE, index=False, lineterminator="\n")


def gray(plane: np.ndarray) -> np.ndarray:
    """[-1, 1] as 0 to 255, uint8."""
    return np.rint((plane.clip(-1, 1) + 1) * 127.5).astype(np.uint8)
