"""One .npz in the layout of MedMNIST: what code that was written for those benchmarks loads as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.data.manifest import SPLITS
from fedsynth.exporters import Exporter, gray, rows, usable, write_table
from fedsynth.params import MOST_LAST, Block, Image, ParamsError

FILE = "images.npz"


class NPZ(Exporter):
    """`images.npz` as MedMNIST v2 (doi:10.1038/s41597-022-01721-8): `train_images`, `train_labels` and so for val and
    test.

    Images uint8, [-1, 1] as 0 to 255: (N, *S) for one image channel, (N, *S, C) for 2 to 4 in the order of params.yaml
    (three look like RGB to others). Labels (N, 1) int64, the place in `image.labels`. Mask channels, which MedMNIST has
    not, are `train_masks`, uint8, 0 or 1, in the same layout. A synthetic set is all in train; the arrays of val and
    test are there and empty. The table tells of each image which `array` and `place` it has, and its spacing, for which
    the format has no room. Raises ParamsError for more channels than 4.
    """

    def write(self, images: ImageSet, image: Image, folder: Path) -> None:
        for kind, names in (("image", image.images), ("mask", image.masks)):
            if len(names) > MOST_LAST:
                raise ParamsError(
                    f"NPZ holds up to {MOST_LAST} {kind} channels, image.channels names {len(names)}; use"
                    " fedsynth.exporters.nifti.NIfTI"
                )
        folder.mkdir(parents=True, exist_ok=True)
        places = {label: i for i, label in enumerate(image.labels)}
        arrays: dict[str, np.ndarray] = {}
        table = []
        for split in SPLITS:
            part = [(row, array) for row, array in usable(images) if row["split"] == split]
            arrays |= _arrays(split, [array for _, array in part], image)
            arrays[f"{split}_labels"] = np.array([places[row["label"]] for row, _ in part], np.int64).reshape(-1, 1)
            for place, (row, _) in enumerate(part):
                where: dict[str, Any] = {"array": f"{split}_images", "place": place, "spacing_mm": row["spacing_mm"]}
                table += rows(image, row, dict.fromkeys(image.channels, FILE), **where)
        np.savez_compressed(folder / FILE, **arrays)  # type: ignore[arg-type]
        write_table(folder, table, ("array", "place", "spacing_mm"))

    def source(self, image: Image, folder: Path) -> Block:
        args = {
            "file": str(folder / FILE),
            "labels": list(image.labels),
            "partition": {"kind": "iid", "sites": ["synthetic"]},
        }
        return Block(class_path="fedsynth.sources.medmnist.MedMNIST", args=args)

    def layout(self, image: Image) -> dict[str, str]:
        labels = ", ".join(f"{i} {label}" for i, label in enumerate(image.labels))
        masks = ", train_masks (0 or 1)" if image.masks else ""
        return {
            FILE: f"train_images (0 to 255), train_labels ({labels}){masks}; channels last: {', '.join(image.channels)}"
        }


def _arrays(split: str, found: list[np.ndarray], image: Image) -> dict[str, np.ndarray]:
    """The arrays of one split from images (C, *S) in [-1, 1]: (N, *S), or (N, *S, channels) where there are several."""
    stack = np.stack(found) if found else np.zeros((0, len(image.channels), *image.size), np.float32)
    masks = (stack[:, len(image.images) :] > 0).astype(np.uint8)
    parts = {f"{split}_images": gray(stack[:, : len(image.images)])} | (
        {f"{split}_masks": masks} if image.masks else {}
    )
    return {
        name: part[:, 0] if part.shape[1] == 1 else np.ascontiguousarray(np.moveaxis(part, 1, -1))
        for name, part in parts.items()
    }
