"""Nearest-neighbour distances in pixel and feature space, with mirroring.

Also the pictures of the nearest pairs, which stay at the site.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.measures import MeasureInputs

Points = Callable[[np.ndarray], np.ndarray]  # (N, I, *S) -> (N, P)
ROWS = 64  # rows of a distance matrix that are computed at a time


def spaces(seen: MeasureInputs) -> dict[str, Points]:
    """Returns the spaces in which images are points: "pixel", what a model draws, and "feature", the extractor's."""

    def pixel(images: np.ndarray) -> np.ndarray:
        return images[:, _generated(seen)].reshape(len(images), -1)

    return {"pixel": pixel, "feature": seen.extractor.features}


def drawn(seen: MeasureInputs, images: ImageSet) -> np.ndarray:
    """Returns the image channels (N, I, *S) that a model draws, if there are any, else all.

    A given channel is not generated, and would hide a copy in the channels beside it.
    """
    return seen.pixels(images)[:, _generated(seen)]


def _generated(seen: MeasureInputs) -> list[int]:
    image = seen.image
    places = [i for i, name in enumerate(image.originals) if name in image.generated]
    return places or list(range(len(image.originals)))


def mirrors(images: np.ndarray, flip: tuple[int, ...]) -> list[np.ndarray]:
    """Returns the images (N, I, *S) mirrored along every combination of the spatial axes `flip`, including none."""
    chosen = [axes for n in range(len(flip) + 1) for axes in combinations(flip, n)]
    return [np.flip(images, tuple(axis + 2 for axis in axes)) for axes in chosen]


def distances(seen: MeasureInputs, points: Points, of: list[ImageSet], to: ImageSet) -> list[np.ndarray]:
    """Returns for each set in `of` the distances (N, N to) float64 to the images of `to`.

    Each is the smallest over the mirrored versions of the image of `to`.
    """
    mirrored = [points(np.ascontiguousarray(m)) for m in mirrors(seen.pixels(to), seen.flip)]
    own = [points(seen.pixels(images)) for images in of]
    return [np.min([euclidean(a, b) for b in mirrored], axis=0) for a in own]


def euclidean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns distances (N, M) between the rows of a (N, P) and b (M, P).

    They are computed from differences, not from inner products, so that the distance to a copy is exactly 0.
    """
    import torch

    how = "donot_use_mm_for_euclid_dist"
    parts, others = torch.tensor(a).split(ROWS), torch.tensor(b)
    found = [torch.cdist(part, others, compute_mode=how) for part in parts if len(part)]
    return torch.cat(found).double().numpy() if found else np.zeros((0, len(b)))


def by_subject(table: np.ndarray, subjects: np.ndarray) -> np.ndarray:
    """Returns (N, S) distances to the nearest image of each subject, from a table (N, M) and the M images' subjects."""
    return np.stack([table[:, subjects == s].min(1) for s in np.unique(subjects)], axis=1)


def relative(table: np.ndarray, neighbours: int) -> np.ndarray:
    """Returns (N,) in [0, 1]: the smallest of M distances over the mean of the `neighbours` smallest (at most M - 1).

    NaN where that mean is 0. This is l(x, x'; S) of Carlini et al. 2023, arXiv:2301.13188, section 4.2. It is
    independent of scale: a blurred image is nearer to all images, so the plain distance would take it for a copy, and
    would miss a sharp copy of an unusual image.
    """
    near = np.sort(table, axis=1)[:, : max(2, min(neighbours, table.shape[1] - 1))]
    mean = near.mean(1)
    return np.divide(near[:, 0], mean, out=np.full(len(near), np.nan), where=mean > 0)


@dataclass(frozen=True)
class Pair:
    """A synthetic image and its nearest training image (by index), with their relative distance `s`.

    `limit` is the site's threshold.
    """

    synthetic: int
    train: int
    s: float
    limit: float

    @property
    def text(self) -> str:
        return f"{self.s:.3f}, copy below {self.limit:.3f}"


def write(folder: Path, seen: MeasureInputs, pairs: dict[str, list[Pair]]) -> None:
    """Write `pairs.png` and `pairs.csv` with the pairs of each space.

    They contain real images: `folder` is at the site and stays there.
    """
    from fedsynth.data.pictures import png

    folder.mkdir(parents=True, exist_ok=True)
    drawn = seen.synthetic.manifest["image_id"].tolist(), seen.real[1].manifest["image_id"].tolist()
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["space", "synthetic", "train", "relative_distance", "threshold", "copy"])
        for space, found in pairs.items():
            rows.writerows(
                [space, drawn[0][p.synthetic], drawn[1][p.train], p.s, p.limit, p.s < p.limit] for p in found
            )
    (folder / "pairs.png").write_bytes(png(_picture(seen, pairs)))


def _picture(seen: MeasureInputs, pairs: dict[str, list[Pair]]) -> np.ndarray:
    """Returns the picture (height, width, 3) uint8 with one row per space.

    A row shows the pairs, synthetic | real, by increasing distance, each with its s.
    """
    from PIL import Image as pil
    from PIL import ImageDraw

    from fedsynth.data.pictures import font, sheet

    tiles = {space: [sheet(_beside(seen, pair), seen.image) for pair in found] for space, found in pairs.items()}
    height, width = next((t.shape[:2] for line in tiles.values() for t in line), (0, 0))
    apart, head = 24, 48
    canvas = pil.new(
        "RGB",
        (apart + (width + apart) * max(map(len, tiles.values()), default=0), (head + height + apart) * len(tiles)),
        "white",
    )
    pen = ImageDraw.Draw(canvas)
    for line, (space, sheets) in enumerate(tiles.items()):
        y = line * (head + height + apart)
        pen.text((apart, y + 6), f"Nearest pairs by {space}s: synthetic | the site's training image", "black", font(15))
        for i, (tile, pair) in enumerate(zip(sheets, pairs[space], strict=True)):
            x = apart + i * (width + apart)
            pen.text((x, y + 28), pair.text, "#b00000" if pair.s < pair.limit else "#555555", font(13))
            canvas.paste(pil.fromarray(tile), (x, y + head), pil.fromarray(tile))
    return np.asarray(canvas)


def _beside(seen: MeasureInputs, pair: Pair) -> ImageSet:
    """Returns the two images, with the real one mirrored to be nearest in pixels, for visual comparison."""
    own, real = (
        seen.synthetic.where(_one(len(seen.synthetic), pair.synthetic)),
        seen.real[1].where(_one(len(seen.real[1]), pair.train)),
    )
    sides = mirrors(np.asarray(real.images), seen.flip)
    nearest = min(sides, key=lambda mirrored: float(np.square(mirrored - own.images).sum()))
    return concatenate([own, ImageSet(real.manifest, nearest)])


def _one(n: int, place: int) -> np.ndarray:
    return np.arange(n) == place


def by_patient(values: np.ndarray, whose: np.ndarray) -> np.ndarray:
    """Group values (N, ...) by the patients `whose` (N,), as (patients,) object, for resampling patients."""
    groups = np.empty(len(np.unique(whose)), dtype=object)
    for i, who in enumerate(np.unique(whose)):
        groups[i] = values[whose == who]
    return groups
