"""Tar files that are read from start to end: what training at scale streams, from a disk or over the network."""

from __future__ import annotations

import io
import json
import tarfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.data.manifest import SetError
from fedsynth.exporters import COPIED, Exporter, each, place_of, rows, usable, write_table
from fedsynth.exporters.png import save
from fedsynth.params import Image, ParamsError

ABOUT = [*COPIED, "spacing_mm"]


class WebDataset(Exporter):
    """`shard-000000.tar` and on, with `per_shard` images each, as WebDataset and Hugging Face's `webdataset` loader
    read them.

    The files of one image lie together and share its image_id: `<image_id>.<channel>.png` for slices (8-bit gray, masks
    0 or 255), `.npy` for volumes (float32 in [-1, 1], masks uint8, 0 or 1), `<image_id>.cls`, the place of the label in
    `image.labels`, and `<image_id>.json` with label, origin, model, seed, spacing_mm (empty where unknown) and the
    like. `manifest.csv` tells each file's shard; with the shards unpacked beside it, fedsynth.sources.table.Table reads
    it.

    The same set gives the same bytes. Raises ParamsError for channels whose names the readers could not keep apart.
    """

    def __init__(self, per_shard: int = 1000):
        if per_shard < 1:
            raise ParamsError(f"per_shard of an exporter must be at least 1, not {per_shard}")
        self.per_shard = per_shard

    def write(self, images: ImageSet, image: Image, folder: Path) -> None:
        _check(image)
        folder.mkdir(parents=True, exist_ok=True)
        found, table = usable(images), []
        samples = each(found)
        for number in range(-(-len(found) // self.per_shard)):
            shard = f"shard-{number:06d}.tar"
            with tarfile.open(folder / shard, "w", format=tarfile.PAX_FORMAT) as tar:
                for row, array in islice(samples, self.per_shard):
                    key = _key(row)
                    names = {channel: f"{key}.{channel}{_ending(image)}" for channel in image.channels}
                    files = {
                        names[c]: _encoded(plane, image.channels[c]) for c, plane in zip(names, array, strict=True)
                    }
                    files[f"{key}.json"] = json.dumps({name: row[name] for name in ABOUT}, sort_keys=True).encode()
                    files[f"{key}.cls"] = str(place_of(image, row)).encode()
                    _add(tar, files)
                    table += rows(image, row, names, about=f"{key}.json", class_file=f"{key}.cls", shard=shard)
        write_table(folder, table)

    def layout(self, image: Image) -> dict[str, str]:
        classes = ", ".join(f"{i} {label}" for i, label in enumerate(image.labels))
        return {
            "shard-*.tar": (
                f"for each image <image_id>.<channel>{_ending(image)} and <image_id>.json, and <image_id>.cls"
                f" ({classes}); the column `shard` tells which"
            )
        }


def _check(image: Image) -> None:
    names = list(image.channels)
    if bad := [c for c in names if [n.lower() for n in names].count(c.lower()) > 1]:
        raise ParamsError(
            f"image.channels {bad}: WebDataset's readers make endings of the names, in lower case; rename them"
        )


def _key(row: dict[str, Any]) -> str:
    """The image_id. Raises SetError where a reader would cut it: all from the first dot on is taken for the ending."""
    key = str(row["image_id"])
    if "." in key or "/" in key:
        raise SetError(
            f"image_id {key!r} has a dot or a slash, at which readers of WebDataset would cut it; export with another"
            " exporter"
        )
    return key


def _ending(image: Image) -> str:
    return ".png" if len(image.size) == 2 else ".npy"


def _encoded(plane: np.ndarray, kind: str) -> bytes:
    """A channel (*S) in [-1, 1] as the bytes of its file."""
    buffer = io.BytesIO()
    if plane.ndim == 2:
        save(buffer, plane)
    else:
        np.save(buffer, plane.astype(np.float32) if kind == "image" else (plane > 0).astype(np.uint8))
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, files: dict[str, bytes]) -> None:
    """In the order of the names, without time and owner (0 in a new TarInfo): the bytes depend on the content alone."""
    for name in sorted(files):
        info = tarfile.TarInfo(name)
        info.size = len(files[name])
        tar.addfile(info, io.BytesIO(files[name]))
