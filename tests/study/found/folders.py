"""Small folders as people have them, without a table or with one of other columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image as Pillow

SIZE = (40, 52)


def picture(path: Path, seed: int, size: tuple[int, int] = SIZE, colour: bool = False) -> Path:
    """A picture of noise around a spot; no two are equal."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(20, 120, (*size, 3) if colour else size).astype(np.uint8)
    pixels[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] += 100
    return saved(path, pixels)


def mask(path: Path, marked: bool = True, size: tuple[int, int] = SIZE, side: int = 0) -> Path:
    """A mask of the spot, or of a square of `side` pixels."""
    pixels = np.zeros(size, np.uint8)
    high, wide = (side, side) if side else (size[0] // 4, size[1] // 4)
    pixels[size[0] // 4 :, size[1] // 4 :][:high, :wide] = 255 * marked
    return saved(path, pixels)


def saved(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(pixels).save(path)
    return path


def by_class(
    folder: Path, n: int = 60, masks: bool = False, size: tuple[int, int] = SIZE, colour: bool = False
) -> Path:
    """`n` pictures in benign/ and malignant/, with masks beside them where asked."""
    for i in range(n):
        name = folder / ("benign", "malignant")[i % 2] / f"{i:03d}.png"
        picture(name, i, size, colour)
        if masks:
            mask(name.with_name(f"{i:03d}_mask.png"), size=size)
    return folder


def flat(folder: Path, n: int = 24) -> Path:
    for i in range(n):
        picture(folder / f"{i:03d}.png", i)
    return folder


def beside(folder: Path, n: int = 24) -> Path:
    """images/ and masks/, as segmentation sets are kept."""
    for i in range(n):
        picture(folder / "images" / f"{i:03d}.jpg", i)
        mask(folder / "masks" / f"{i:03d}.png")
    return folder


def of_patients(folder: Path, patients: int = 16, slices: int = 3) -> Path:
    """Slices of patients, in folders of classes."""
    for patient in range(patients):
        for cut in range(slices):
            name = f"patient{patient:03d}_slice{cut}.png"
            picture(folder / ("ill", "well")[patient % 2] / name, 10 * patient + cut)
    return folder


def other_columns(folder: Path, n: int = 32) -> Path:
    """A CSV as a hospital exports it: names without folders, columns of other names, two sites."""
    for i in range(n):
        picture(folder / "export" / f"IM{i:04d}.png", i)
    table = {
        "Image Index": [f"IM{i:04d}.png" for i in range(n)],
        "Finding Labels": [("Mass", "No Finding")[i % 2] for i in range(n)],
        "Patient ID": [f"{i // 2:03d}" for i in range(n)],
        "Hospital": [("Köln", "St. Mary")[i // 2 % 2] for i in range(n)],
        "Age": [str(30 + i) for i in range(n)],
    }
    pd.DataFrame(table).to_csv(folder / "export.csv", index=False, sep=";")
    return folder


def medmnist(path: Path, n: int = 40) -> Path:
    """An .npz with splits of its own."""
    rng, arrays = np.random.default_rng(0), {}
    for split, images in (("train", n), ("val", 8), ("test", 20)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (images, 28, 28), np.uint8)
        arrays[f"{split}_labels"] = (np.arange(images) % 2)[:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path
