"""The folders that nnU-Net trains on and MONAI loads: a set that segmentation can be tried with at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.data.manifest import FILE
from fedsynth.exporters import Exporter, each, place_of, rows, usable, write_table
from fedsynth.exporters._files import stems
from fedsynth.exporters.nifti import NOMINAL, save
from fedsynth.params import Block, Image

ABOUT, ENDING = "dataset.json", ".nii.gz"


class Decathlon(Exporter):
    """nnU-Net v2's form of the Decathlon's folders (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z; Antonelli et
    al. 2022, arXiv:2106.05735): imagesTr/<image_id>_0000.nii.gz and on, a file for each image channel, float32 in [-1,
    1], and labelsTr/<image_id>.nii.gz.

    A mask channel is the value 1, 2, … of the label files, in the order of params.yaml; an image in which nothing is
    marked has 0 everywhere. Where masks overlap anywhere in the set, they are bits of the value (1, 2, 4, …) and
    nnU-Net's regions in dataset.json, so that nothing is lost. A slice is a volume of one; 1 mm, nominal, where the
    spacing is unknown.

    `training` of dataset.json is what monai.data.load_decathlon_datalist reads: `image` (a list of files where there
    are several channels), `label` and `class`, the number of the image's label in `classes`. Without mask channels
    there are no label files, and `label` is that number (is_segmentation=False).
    """

    def write(self, images: ImageSet, image: Image, folder: Path) -> None:
        for part in ["imagesTr"] + ["labelsTr"] * bool(image.masks):
            (folder / part).mkdir(parents=True, exist_ok=True)
        found, table, listed = usable(images), [], []
        cases = stems(found.manifest["image_id"])
        values, labels = _labels(image.masks, lambda: (array[len(image.images) :] for array in found.images))
        for row, array in each(found):
            case = cases[row["image_id"]]
            names = {c: f"imagesTr/{case}_{i:04d}{ENDING}" for i, c in enumerate(image.images)}
            for name, plane in zip(names.values(), array, strict=False):  # the image channels come first
                save(folder / name, plane.astype(np.float32), row)
            if image.masks:
                label = np.tensordot(values, (array[len(image.images) :] > 0).astype(values.dtype), 1)
                names |= dict.fromkeys(image.masks, f"labelsTr/{case}{ENDING}")
                save(folder / names[image.masks[0]], label, row)
            listed.append(_listed(image, row, names))
            table += rows(image, row, names, about=ABOUT)
        about = _about(image, labels, found.manifest.to_dict("records")) | {"training": listed}
        (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        write_table(folder, table)

    def source(self, image: Image, folder: Path) -> Block:
        return Block(class_path="fedsynth.sources.decathlon.Decathlon", args={"folder": str(folder), "table": FILE})

    def layout(self, image: Image) -> dict[str, str]:
        files = {
            "imagesTr/": f"<image_id>_0000{ENDING} and on: {', '.join(image.images)}",
            ABOUT: "channels and labels for nnU-Net; `training` for MONAI's load_decathlon_datalist",
            ENDING: NOMINAL,
        }
        return files | (
            {"labelsTr/": f"<image_id>{ENDING}: {ABOUT} says which value is which of {', '.join(image.masks)}"}
            if image.masks
            else {}
        )


def _labels(masks: list[str], planes: Callable[[], Iterable[np.ndarray]]) -> tuple[np.ndarray, dict[str, Any]]:
    """The value that each mask channel adds to a label file, and dataset.json's part about them; `planes()`
    goes through those (M, *S) of each image, above 0 where something is marked.
    """
    if not any(((plane > 0).sum(0) > 1).any() for plane in planes()):
        values = list(range(1, len(masks) + 1))
        return np.array(values, np.uint8), {"labels": {"background": 0} | dict(zip(masks, values, strict=True))}
    values = [1 << i for i in range(len(masks))]
    kind = np.min_scalar_type(2 * values[-1] - 1)
    counts = sum(
        np.bincount(np.tensordot(np.array(values), plane > 0, 1).ravel(), minlength=2 * values[-1])
        for plane in planes()
    )
    return np.array(values, kind), _regions(dict(zip(masks, values, strict=True)), np.asarray(counts))


def _regions(bits: dict[str, int], counts: np.ndarray) -> dict[str, Any]:
    """nnU-Net's regions, which it draws over each other in their order: the largest first, so that what lies in another
    stays. Each is drawn with the value that most of its voxels have where no later region is; `counts` has the number
    of voxels of each value.
    """
    values = np.arange(len(counts))
    names = sorted(bits, key=lambda name: -counts[(values & bits[name]) > 0].sum())
    order = []
    for place, name in enumerate(names):
        later = sum(bits[other] for other in names[place + 1 :])
        own = ((values & bits[name]) > 0) & ((values & later) == 0)
        order.append(int(np.argmax(np.where(own, counts, -1))))
    regions = {name: [int(v) for v in values if v & bits[name]] for name in names}
    return {"labels": {"background": 0} | regions, "regions_class_order": order}


def _listed(image: Image, row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """An image of MONAI's list."""
    files, number = [names[c] for c in image.images], place_of(image, row)
    return {
        "image": files[0] if len(files) == 1 else files,
        "label": names[image.masks[0]] if image.masks else number,
        "class": number,
    }


def _about(image: Image, labels: dict[str, Any], found: list[dict[str, Any]]) -> dict[str, Any]:
    made = sorted({f"{row['origin']} images" + (f" by {row['model']}" if row["model"] else "") for row in found})
    channels = {str(i): name for i, name in enumerate(image.images)}
    return {
        "name": "fedsynth",
        "description": ", ".join(made),
        "channel_names": channels,  # of nnU-Net
        "modality": channels,  # of the Decathlon
        **labels,
        "classes": {str(i): name for i, name in enumerate(image.labels)},
        "numTraining": len(found),
        "numTest": 0,
        "file_ending": ENDING,
    }
