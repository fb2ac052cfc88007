"""A small folder of files with a table, as a hospital might bring it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image as Pillow

COLUMNS = ["image", "mask", "label", "site", "subject", "modality"]


def make_table(
    folder: Path, subjects: int = 24, images: int = 2, size: tuple[int, int] = (20, 24), seed: int = 0
) -> pd.DataFrame:
    """`images` PNG of each subject, labels a, b, c in turn, sites p and q; class a has no mask. Returns the table as
    written.
    """
    rng, rows = np.random.default_rng(seed), []
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for subject in range(subjects):
        for cut in range(images):
            name = f"{subject:03d}-{cut}.png"
            pixels = rng.integers(0, 200, size, np.uint8)
            mask = np.zeros(size, np.uint8)
            mask[4:12, 6:15] = 255
            pixels[mask > 0] += 50
            Pillow.fromarray(pixels).save(folder / "images" / name)
            Pillow.fromarray(mask).save(folder / "masks" / name)
            label = "abc"[subject % 3]
            rows.append(
                [
                    f"images/{name}",
                    "" if label == "a" else f"masks/{name}",
                    label,
                    "pq"[subject % 2],
                    f"patient {subject}",
                    "US",
                ]
            )
    table = pd.DataFrame(rows, columns=COLUMNS)
    write_table(folder, table)
    return table


def write_table(folder: Path, table: pd.DataFrame) -> None:
    table.to_csv(folder / "manifest.csv", index=False)
