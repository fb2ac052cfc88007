"""Nearest-neighbour distances in pixel and feature space, with mirroring, and pictures of the nearest pairs for the
site.
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
ROWS = 64  # of a table of distances at a time


def spaces(seen: MeasureInputs) -> dict[str, Points]:
    """The two spaces in which a copy is looked for: "pixel", the image channels as they are, and "feature", the
    extractor's.

    By pixels only generated channels are looked at, where there are any: a given one is nobody's here, and would hide a
    copy beside it.
    """
    image = seen.image
    places = [i for i, name in enumerate(image.originals) if name in image.generated] or list(
        range(len(image.originals))
    )
    return {"pixel": lambda images: images[:, places].reshape(len(images), -1), "feature": seen.extractor.features}


def mirrors(images: np.ndarray, flip: tuple[int, ...]) -> list[np.ndarray]:
    """The images (N, I, *S) as they are and along every combination of the spatial axes `flip`."""
    chosen = [axes for n in range(len(flip) + 1) for axes in combinations(flip, n)]
    return [np.flip(images, tuple(axis + 2 for axis in axes)) for axes in chosen]


def distances(seen: MeasureInputs, points: Points, of: list[ImageSet], to: ImageSet) -> list[np.ndarray]:
    """For each set in `of` (N, N to) float64: to each image of `to`, that one as it is or mirrored, whichever is
    nearer.
    """
    mirrored = [points(np.ascontiguousarray(m)) for m in mirrors(seen.pixels(to), seen.flip)]
    own = [points(seen.pixels(images)) for images in of]
    return [np.min([euclidean(a, b) for b in mirrored], axis=0) for a in own]


def euclidean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, M) between rows of a (N, P) and b (M, P). By differences, not by products: of a copy it is exactly 0."""
    import torch

    how = "donot_use_mm_for_euclid_dist"
    parts, others = torch.tensor(a).split(ROWS), torch.tensor(b)
    found = [torch.cdist(part, others, compute_mode=how) for part in parts if len(part)]
    return torch.cat(found).double().numpy() if found else np.zeros((0, len(b)))


def by_subject(table: np.ndarray, subjects: np.ndarray) -> np.ndarray:
    """(N, S): to the nearest image of each subject, from a table (N, M) and the M images' subjects."""
    return np.stack([table[:, subjects == s].min(1) for s in np.unique(subjects)], axis=1)


def relative(table: np.ndarray, neighbours: int) -> np.ndarray:
    """(N,) in [0, 1]: the nearest of M distances over the mean of the `neighbours` nearest (at most M - 1); NaN where
    that is 0.

    Carlini et al. 2023, arXiv:2301.13188, section 4.2, l(x, x'; S). It does not depend on the scale: a blurred image is
    nearer to everything, so that plain distance would take it for a copy, and a sharp copy of an unusual image for
    none.
    """
    near = np.sort(table, axis=1)[:, : max(2, min(neighbours, table.shape[1] - 1))]
    mean = near.mean(1)
    return np.divide(near[:, 0], mean, out=np.full(len(near), np.nan), where=mean > 0)


@dataclass(frozen=True)
class Pair:
    """A synthetic image, the training image next to it (by their places), their relative distance and the site's
    threshold.
    """

    synthetic: int
    train: int
    s: float
    limit: float

    @property
    def text(self) -> str:
        return f"{self.s:.3f}, copy below {self.limit:.3f}"


def write(folder: Path, seen: MeasureInputs, pairs: dict[str, list[Pair]]) -> None:
    """`pairs.png` and `pairs.csv` of the pairs by space. Real images are in them: `folder` is at the site, and stays
    there.
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
    """(height, width, 3) uint8: a line for each space, in it the pairs synthetic | real from the nearest on, each with
    its s.
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
    """The two images, the real one mirrored as it is nearest in pixels, so that eyes compare like with like."""
    own, real = (
        seen.synthetic.where(_one(len(seen.synthetic), pair.synthetic)),
        seen.real[1].where(_one(len(seen.real[1]), pair.train)),
    )
    nearest = min(mirrors(real.images, seen.flip), key=lambda mirrored: float(np.square(mirrored - own.images).sum()))
    return concatenate([own, ImageSet(real.manifest, nearest)])


def _one(n: int, place: int) -> np.ndarray:
    return np.arange(n) == place


def by_patient(values: np.ndarray, whose: np.ndarray) -> np.ndarray:
    """(patients,) object: the values (N, ...) of each patient's images, `whose` (N,) they are, so that patients can be
    drawn anew.
    """
    groups = np.empty(len(np.unique(whose)), dtype=object)
    for i, who in enumerate(np.unique(whose)):
        groups[i] = values[whose == who]
    return groups
