"""A small .npz as MedMNIST publishes them, and tar files unpacked."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np

COUNTS = {"train": 12, "val": 3, "test": 6}


def make_npz(
    path: Path, item: tuple[int, ...] = (20, 24), masks: bool = False, seed: int = 0, **changes: np.ndarray
) -> dict[str, np.ndarray]:
    """Random images of the shape `item`, labels 0, 1, 2 in turn, an empty mask for label 0. `changes` are arrays
    instead. Returns all.
    """
    rng, arrays = np.random.default_rng(seed), {}
    for split, n in COUNTS.items():
        labels = np.arange(n, dtype=np.uint8)[:, None] % 3
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, *item), np.uint8)
        arrays[f"{split}_labels"] = labels
        if masks:
            marked = np.zeros((n, *item), np.uint8)
            marked[:, 4:12, 6:15] = (labels > 0)[..., None] * 255
            arrays[f"{split}_masks"] = marked
    arrays |= changes
    np.savez(path, **arrays)
    return arrays


def unpack(folder: Path) -> list[str]:
    """Unpack every tar file of a folder there and take it away. Returns their names."""
    found = sorted(folder.glob("*.tar"))
    for path in found:
        with tarfile.open(path) as tar:
            tar.extractall(folder, filter="data")
        path.unlink()
    return [path.name for path in found]
