"""Arrays in the layout of MedMNIST: what code that was written for those benchmarks loads as it is."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.data.manifest import SPLITS
from fedsynth.exporters import Exporter, each, gray, place_of, rows, usable, write_table
from fedsynth.exporters._files import stems
from fedsynth.params import MOST_LAST, Block, Image, ParamsError

FILE, ONE_OF_SEVERAL = "images.npz", "images-{channel}.npz"
COLOURS = (["red", "green", "blue"], ["r", "g", "b"])  # names of image channels that are one colour picture


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
            _write(folder / file, found, image, [image.index([c])[0] for c, name in files.items() if name == file])
        for split in SPLITS:
            there = found.manifest[found.manifest["split"] == split]
            for place, row in enumerate(there.to_dict("records")):
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


def _write(path: Path, found: ImageSet, image: Image, channels: list[int]) -> None:
    """The file with some image channels: arrays of those splits that have an image; of train, where none has.

    The bytes are those of `np.savez_compressed`, written one image after the other: a large set has no room in memory.
    """
    of_split = {name: rows.to_dict("records") for name, rows in found.manifest.groupby("split")}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for split in [s for s in SPLITS if s in of_split] or [SPLITS[0]]:
            those = of_split.get(split, [])
            pixels = (gray(array[channels]) for row, array in each(found) if row["split"] == split)
            _add(file, f"{split}_images", pixels, _shape(len(those), len(channels), image))
            labels = (np.array([place_of(image, row)], np.int64) for row in those)
            _add(file, f"{split}_labels", labels, (len(those), 1), "<i8")
            if image.masks:
                masks = (array[len(image.images) :] > 0 for row, array in each(found) if row["split"] == split)
                _add(file, f"{split}_masks", masks, _shape(len(those), len(image.masks), image))


def _shape(n: int, channels: int, image: Image) -> tuple[int, ...]:
    return (n, *image.size) if channels == 1 else (n, *image.size, channels)


def _add(
    file: zipfile.ZipFile, name: str, arrays: Iterable[np.ndarray], shape: tuple[int, ...], kind: str = "|u1"
) -> None:
    """An array of `shape`, whose parts come as (C, *S) with channels first, as a .npy in the file."""
    with file.open(f"{name}.npy", "w", force_zip64=True) as to:
        np.lib.format.write_array_header_1_0(to, {"descr": kind, "fortran_order": False, "shape": shape})
        for array in arrays:
            to.write(np.ascontiguousarray(np.moveaxis(array, 0, -1)).tobytes())
