"""Nearest-neighbour distances in pixel and feature space, with mirroring, of sets that may be on disk.

Also the pictures of the nearest pairs, which stay at the site.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Protocol

import numpy as np

from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.measures import MeasureInputs, in_parts

ROWS = 64  # rows of a distance matrix that are computed at a time
QUERY, BLOCK = 96 * 2**20, 32 * 2**20  # bytes of images that are held against a set at once, and of that set
EXACT = 2**22  # values of a set up to which all distances to it are by differences
MARGIN = 14  # patients beyond those that are asked for, whose distances are by differences, too
OFF = 2e-5  # by how much a squared distance may be off by rounding, as a share of the squared lengths of both points

Block = tuple[slice, list[np.ndarray]]


class Points(Protocol):
    """A set's images as `n` points of so many `values`, in their order."""

    n: int
    values: int

    def blocks(self, most: int, mirrored: bool = True) -> Iterator[Block]:
        """Yields blocks of at most `most` bytes: where they are in the set, and their points (B, P), first as they are
        and then in each mirrored version.
        """


class Pixels:
    """What a model draws of each image: read from where the set is, block after block."""

    def __init__(self, seen: MeasureInputs, images: ImageSet):
        self.seen, self.images, self.n = seen, images, len(images)
        self.values = len(generated(seen)) * math.prod(seen.image.size)

    def blocks(self, most: int, mirrored: bool = True) -> Iterator[Block]:
        flip = self.seen.flip if mirrored else ()
        step = max(1, most // (4 * self.values * 2 ** len(flip)))
        for start in range(0, self.n, step):
            part = self.images.channels(self.seen.image, generated(self.seen), slice(start, start + step))
            versions = [np.ascontiguousarray(of).reshape(len(part), -1) for of in mirrors(part, flip)]
            yield slice(start, start + len(part)), versions


class Features:
    """The extractor's features (N, F), few enough to be in memory, of which `known` are those of no mirroring."""

    def __init__(self, seen: MeasureInputs, images: ImageSet, known: np.ndarray):
        def turned(part: ImageSet) -> np.ndarray:
            versions = mirrors(seen.pixels(part), seen.flip)[1:]
            return np.stack([seen.extractor.features(np.ascontiguousarray(of)) for of in versions], axis=1)

        self.versions = [known, *(in_parts(turned, images).swapaxes(0, 1) if seen.flip else [])]
        self.n, self.values = known.shape

    def blocks(self, most: int, mirrored: bool = True) -> Iterator[Block]:
        step = max(1, most // (8 * max(1, self.values)))
        for start in range(0, self.n, step):
            rows = slice(start, start + step)
            yield rows, [of[rows] for of in self.versions[: None if mirrored else 1]]


def drawn(seen: MeasureInputs, images: ImageSet) -> np.ndarray:
    """Returns the image channels (N, I, *S) that a model draws, if there are any, else all.

    A given channel is not generated, and would hide a copy in the channels beside it.
    """
    return images.channels(seen.image, generated(seen))


def generated(seen: MeasureInputs) -> list[str]:
    image = seen.image
    return [name for name in image.originals if name in image.generated] or image.originals


def some(images: ImageSet, most: int, seen: MeasureInputs, purpose: str) -> np.ndarray:
    """Returns (N,) bool: `most` random images, all where there are no more; the same for the same purpose."""
    keep = np.ones(len(images), dtype=bool)
    if len(images) > most:
        keep[:] = False
        keep[seen.generator(purpose).choice(len(images), most, replace=False)] = True
    return keep


def mirrors(images: np.ndarray, flip: tuple[int, ...]) -> list[np.ndarray]:
    """Returns the images (N, I, *S) mirrored along every combination of the spatial axes `flip`, including none."""
    chosen = [axes for n in range(len(flip) + 1) for axes in combinations(flip, n)]
    return [np.flip(images, tuple(axis + 2 for axis in axes)) for axes in chosen]


def distances(of: np.ndarray, to: Points, whose: np.ndarray, keep: int, skip: np.ndarray | None = None) -> np.ndarray:
    """Returns the distances (B, M) float64 of points (B, P) to those of a set, each to the nearest mirrored version.

    All are by differences (`euclidean`). Where the set is large, only those to the images of the `keep` nearest
    patients are sure to be there, and to all others that are not farther; the rest are infinite. Which they are is
    found by matrix products, which are thirty times as fast, with MARGIN more and all that rounding may have put behind
    them.

    Args:
        whose: (M,) the patient of each image of the set.
        skip: (B, M) bool, images that do not count: they are infinitely far.
    """
    found = np.full((len(of), to.n), np.inf)
    asked = near(*rough(of, to), whose, keep, skip) if to.n * to.values > EXACT else None
    for rows, versions in to.blocks(BLOCK):
        if asked is None:
            found[:, rows] = np.min([euclidean(of, version) for version in versions], axis=0)
            continue
        for i in np.flatnonzero(asked[:, rows].any(1)):
            at = np.flatnonzero(asked[i, rows])
            found[i, rows.start + at] = np.min([euclidean(of[i : i + 1], v[at]) for v in versions], axis=0)[0]
    if skip is not None:
        found[skip] = np.inf
    return found


def rough(of: np.ndarray, to: Points) -> tuple[np.ndarray, np.ndarray]:
    """Returns squared distances (B, M) float32 as of `distances`, by inner products: |a|^2 + |b|^2 - 2 ab, and by how
    much (B, 1) those of each point may be off.

    From a point in the middle, so that little is lost where they are taken from each other. Of points that lie much
    nearer to each other than to the middle (empty slices among full ones), much is.
    """
    found = np.empty((len(of), to.n), np.float32)
    centre, longest = None, 0.0
    for rows, versions in to.blocks(BLOCK):
        if centre is None:
            centre = versions[0].mean(0)
            a = of - centre
            squares = np.array([row @ row for row in a])[:, None]
        of_each = []
        for b in (version - centre for version in versions):
            lengths = np.array([row @ row for row in b])
            longest = max(longest, float(lengths.max()))
            of_each.append(squares + lengths - 2 * (a @ b.T))
        found[:, rows] = np.min(of_each, axis=0)
    return found, OFF * (squares + longest)


def near(
    table: np.ndarray, off: np.ndarray | float, whose: np.ndarray, keep: int, skip: np.ndarray | None = None
) -> np.ndarray:
    """Returns (B, M) bool: the images that are no farther by `table` (B, M) than the nearest of the patient who is
    MARGIN places behind the `keep`-th nearest, and those that may not be as its distances may be `off`.
    """
    table = table if skip is None else np.where(skip, np.inf, table)
    of_patients = by_subject(table, whose)
    last = min(keep + MARGIN, of_patients.shape[1]) - 1
    return table <= np.partition(of_patients, last, axis=1)[:, last, None] + 2 * off


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
    order = np.argsort(subjects, kind="stable")
    starts = np.unique(subjects[order], return_index=True)[1]
    return np.minimum.reduceat(table[:, order], starts, axis=1)


def relative(table: np.ndarray, neighbours: int) -> np.ndarray:
    """Returns (N,) in [0, 1]: the smallest of M distances over the mean of the `neighbours` smallest (at most M - 1).

    NaN where that mean is 0. This is l(x, x'; S) of Carlini et al. 2023, arXiv:2301.13188, section 4.2. It is
    independent of scale: a blurred image is nearer to all images, so the plain distance would take it for a copy, and
    would miss a sharp copy of an unusual image.
    """
    near = smallest(table, max(2, min(neighbours, table.shape[1] - 1)))
    mean = near.mean(1)
    return np.divide(near[:, 0], mean, out=np.full(len(near), np.nan), where=mean > 0)


def smallest(table: np.ndarray, k: int) -> np.ndarray:
    """Returns the k smallest of each row (N, M) in their order; all where there are fewer."""
    return np.sort(np.partition(table, k - 1, axis=1)[:, :k] if k < table.shape[1] else table, axis=1)


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
    shown = np.asarray(own.images)
    nearest = min(mirrors(np.asarray(real.images), seen.flip), key=lambda m: float(np.square(m - shown).sum()))
    return concatenate([ImageSet(own.manifest, shown), ImageSet(real.manifest, nearest)])


def _one(n: int, place: int) -> np.ndarray:
    return np.arange(n) == place


def by_patient(values: np.ndarray, whose: np.ndarray) -> np.ndarray:
    """Group values (N, ...) by the patients `whose` (N,), as (patients,) object, for resampling patients."""
    groups = np.empty(len(np.unique(whose)), dtype=object)
    for i, who in enumerate(np.unique(whose)):
        groups[i] = values[whose == who]
    return groups
