"""An .npz as MedMNIST publishes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.data.manifest import SPLITS
from fedsynth.params import MOST_LAST
from fedsynth.study.found import kinds
from fedsynth.study.found.layout import FoundError, Layout, channel, shown


def recognise(path: Path) -> Layout | None:
    """The layout of a file, or of the only such file in a folder; None where there is none."""
    files = [path] if path.is_file() else sorted(path.glob("*.npz"))
    there = {file: arrays for file in files if (arrays := _arrays(file))}
    if not there:
        return None
    if len(there) > 1:
        raise FoundError(
            f"{path} holds several sets of MedMNIST: {shown([p.name for p in there])}; name one of these files"
        )
    ((file, arrays),) = there.items()
    return _layout(file, arrays)


def _arrays(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes by name, where they are MedMNIST's names."""
    if path.suffix.lower() != ".npz":
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            names = [name for name in file.files if name.partition("_")[0] in SPLITS]
            if not any(f"{split}_images" in names and f"{split}_labels" in names for split in SPLITS):
                return {}
            return {name: file[name].shape for name in names}
    except (OSError, ValueError, EOFError, KeyError):  # another file, and the layouts that read it name it
        return {}


def _layout(file: Path, arrays: dict[str, tuple[int, ...]]) -> Layout:
    split = next(split for split in SPLITS if f"{split}_images" in arrays)
    shape = arrays[f"{split}_images"][1:]
    colours = len(shape) > 2 and shape[-1] == 3
    dims = len(shape) - (len(shape) > 2 and shape[-1] <= MOST_LAST)
    channels: dict[str, Any] = dict(kinds.RGB) if colours else {"gray" if dims == 2 else "image": "image"}
    masks = arrays.get(f"{split}_masks", ())
    if masks:
        n = masks[-1] if len(masks) > dims + 1 else 1
        channels |= {f"mask_{i + 1}" if n > 1 else "mask": "mask" for i in range(n)}
    notes = [
        'labels are integers; MedMNIST\'s info.py has their names: source.args.labels: {"0": name}',
        "MedMNIST names no patients: each image is a subject of its own, and the published splits are kept",
    ]
    title = f"MedMNIST, {channel(file.stem)}.npz"
    return Layout(title, file.parent, "fedsynth.sources.medmnist.MedMNIST", {"file": str(file)}, channels, dims,
                  notes=notes)  # fmt: skip
