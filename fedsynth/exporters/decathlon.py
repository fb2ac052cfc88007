"""The folders that nnU-Net trains on: a set that segmentation can be tried with at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.data.manifest import FILE
from fedsynth.exporters import Exporter, rows, usable, write_table
from fedsynth.exporters.nifti import save
from fedsynth.params import Block, Image

ABOUT, ENDING = "dataset.json", ".nii.gz"


class Decathlon(Exporter):
    """nnU-Net v2's form of the Decathlon's folders (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z; Antonelli et
    al. 2022, arXiv:2106.05735): imagesTr/<image_id>_0000.nii.gz and on, a file for each image channel, float32 in [-1,
    1], and labelsTr/<image_id>.nii.gz.

    A mask channel is the value 1, 2, … of the label files, in the order of params.yaml; an image in which nothing is
    marked has 0 everywhere. Where masks overlap anywhere in the set, they are bits of the value (1, 2, 4, …) and
    nnU-Net's regions in dataset.json, so that nothing is lost. Without mask channels there are no label files. A slice
    is a volume of one; 1 mm where the spacing is unknown.
    """

    def write(self, images: ImageSet, image: Image, folder: Path) -> None:
        for part in ["imagesTr"] + ["labelsTr"] * bool(image.masks):
            (folder / part).mkdir(parents=True, exist_ok=True)
        found, table = usable(images), []
        marked = [array[len(image.images) :] > 0 for _, array in found]
        values, labels = _labels(image.masks, any((masks.sum(0) > 1).any() for masks in marked))
        for (row, array), masks in zip(found, marked, strict=True):
            names = {c: f"imagesTr/{row['image_id']}_{i:04d}{ENDING}" for i, c in enumerate(image.images)}
            for name, plane in zip(names.values(), array, strict=False):  # the image channels come first
                save(folder / name, plane.astype(np.float32), row["spacing_mm"])
            if image.masks:
                label = np.tensordot(values, masks.astype(values.dtype), 1)
                names |= dict.fromkeys(image.masks, f"labelsTr/{row['image_id']}{ENDING}")
                save(folder / names[image.masks[0]], label, row["spacing_mm"])
            table += rows(image, row, names, about=ABOUT)
        about = _about(image, labels, [row for row, _ in found])
        (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        write_table(folder, table, ("about",))

    def source(self, image: Image, folder: Path) -> Block:
        return Block(class_path="fedsynth.sources.decathlon.Decathlon", args={"folder": str(folder), "table": FILE})

    def layout(self, image: Image) -> dict[str, str]:
        files = {
            "imagesTr/": f"<image_id>_0000{ENDING} and on: {', '.join(image.images)}",
            ABOUT: "as nnU-Net reads it: channels and labels",
        }
        return files | (
            {"labelsTr/": f"<image_id>{ENDING}: {ABOUT} says which value is which of {', '.join(image.masks)}"}
            if image.masks
            else {}
        )


def _labels(masks: list[str], overlap: bool) -> tuple[np.ndarray, dict[str, Any]]:
    """The value that each mask channel adds to a label file, and dataset.json's part about them."""
    if not overlap:
        values = list(range(1, len(masks) + 1))
        return np.array(values, np.uint8), {"labels": {"background": 0} | dict(zip(masks, values, strict=True))}
    values = [1 << i for i in range(len(masks))]
    regions = {name: [v for v in range(1, 2 * values[-1]) if v & bit] for name, bit in zip(masks, values, strict=True)}
    return np.array(values, np.min_scalar_type(2 * values[-1] - 1)), {
        "labels": {"background": 0} | regions,
        "regions_class_order": values,
    }


def _about(image: Image, labels: dict[str, Any], found: list[dict[str, Any]]) -> dict[str, Any]:
    made = sorted({f"{row['origin']} images" + (f" by {row['model']}" if row["model"] else "") for row in found})
    return {
        "name": "fedsynth",
        "description": ", ".join(made),
        "channel_names": {str(i): name for i, name in enumerate(image.images)},
        **labels,
        "numTraining": len(found),
        "file_ending": ENDING,
    }
