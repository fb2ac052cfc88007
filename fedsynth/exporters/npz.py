"""Arrays in the layout of MedMNIST: what code that was written for those benchmarks loads as it is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.data.manifest import SPLITS
from fedsynth.exporters import Exporter, gray, place_of, rows, usable, write_table
from fedsynth.exporters._files import stems
from fedsynth.params import MOST_LAST, Block, Image, ParamsError

FILE, ONE_OF_SEVERAL = "images.npz", "images-{channel}.npz"
COLOURS = (["red", "green", "blue"], ["r", "g", "b"])  # names of image channels that are one colour picture
Found = list[tuple[dict[str, Any], np.ndarray]]  # row of the set's manifest and array (C, *S) of each image


class NPZ(Exporter):
    """`images.npz` as MedMNIST v2 (doi:10.1038/s41597-022-01721-8): `train_images` and `train_labels`, and so for val
    and test where the set has such images. A synthetic set is all in train.

    Images uint8, [-1, 1] as 0 to 255, (N, *S); a slice's channels red, green and blue are one picture, (N, H, W, 3).
    MedMNIST knows no other channels, and its readers take two for gray with transparency: so each of several has a file
    of its own, `images-<channel>.npz`. Labels (N, 1) int64, the place in `image.labels`. Mask channels, which MedMNIST
    has not, are `train_masks` in each file, uint8, 0 or 1, (N, *S) or (N, *S, masks). The table tells of each image
    which `array` and `place` it has, and its spacing, for which the format has no room. Raises ParamsError for more
    mask channels than 4.
    """

    def write(self, images: ImageSet, image: Image, folder: Path) -> None:
        if len(image.masks) > MOST_LAST:
            raise ParamsError(
                f"NPZ holds up to {MOST_LAST} mask channels, image.channels names {len(image.masks)}; use"
                " fedsynth.exporters.nifti.NIfTI"
            )
        folder.mkdir(parents=True, exist_ok=True)
        found, files = usable(images), _files(image)
        table: list[dict[str, Any]] = []
        for file in dict.fromkeys(files.values()):
            channels = [image.index([c])[0] for c, name in files.items() if name == file]
            with tempfile.TemporaryDirectory(dir=folder) as work:
                arrays = _arrays(found, image, channels, Path(work))
                np.savez_compressed(folder / file, **arrays)  # type: ignore[arg-type]
        for split in SPLITS:
            for place, (row, _) in enumerate((row, array) for row, array in found if row["split"] == split):
                where: dict[str, Any] = {"array": f"{split}_images", "place": place}
                names = files | dict.fromkeys(image.masks, next(iter(files.values())))
                table += rows(image, row, names, **where)
        write_table(folder, table)

    def source(self, image: Image, folder: Path) -> Block:
        files = _files(image)
        args = {
            "file": str(folder / FILE) if FILE in files.values() else {c: str(folder / f) for c, f in files.items()},
            "labels": list(image.labels),
            "partition": {"kind": "iid", "sites": ["synthetic"]},
        }
        return Block(class_path="fedsynth.sources.medmnist.MedMNIST", args=args)

    def layout(self, image: Image) -> dict[str, str]:
        labels = ", ".join(f"{i} {label}" for i, label in enumerate(image.labels))
        masks = f", train_masks (0 or 1: {', '.join(image.masks)})" if image.masks else ""
        what = f"train_images (0 to 255), train_labels ({labels}){masks}; no val, no test; the format has no spacing"
        return {name if name == FILE else ONE_OF_SEVERAL.format(channel="*"): what for name in _files(image).values()}


def _files(image: Image) -> dict[str, str]:
    """The file of each image channel."""
    names = image.images
    colour = len(image.size) == 2 and [name.lower() for name in names] in COLOURS
    if len(names) == 1 or colour:
        return dict.fromkeys(names, FILE)
    return {name: ONE_OF_SEVERAL.format(channel=stem) for name, stem in stems(names).items()}


def _arrays(found: Found, image: Image, channels: list[int], work: Path) -> dict[str, np.ndarray]:
    """The arrays of one file with some image channels: of those splits that have an image; of train, where none has.

    They are files in `work`, since a large set has no room in memory.
    """
    arrays: dict[str, np.ndarray] = {}
    for split in [s for s in SPLITS if any(row["split"] == s for row, _ in found)] or [SPLITS[0]]:
        part = [(row, array) for row, array in found if row["split"] == split]
        pixels = (gray(array[channels]) for _, array in part)
        arrays[f"{split}_images"] = _stacked(work / f"{split}.npy", pixels, len(part), len(channels), image)
        arrays[f"{split}_labels"] = np.array([place_of(image, row) for row, _ in part], np.int64).reshape(-1, 1)
        if image.masks:
            marked = (array[len(image.images) :] > 0 for _, array in part)
            arrays[f"{split}_masks"] = _stacked(work / f"{split}_.npy", marked, len(part), len(image.masks), image)
    return arrays


def _stacked(file: Path, planes: Iterator[np.ndarray], n: int, channels: int, image: Image) -> np.ndarray:
    """`n` arrays (C, *S) as one, uint8, in a file: (N, *S), or (N, *S, C) where there are several channels."""
    shape = (n, *image.size) if channels == 1 else (n, *image.size, channels)
    out = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    for place, plane in enumerate(planes):
        out[place] = plane[0] if channels == 1 else np.moveaxis(plane, 0, -1)
    return out
