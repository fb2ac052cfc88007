"""Contact sheets of real and synthetic images, shared by the report, MLflow and Prefect."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.params import Image

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

TILE, GAP = 112, 4  # pixels: the longer edge of one image, and the space between two
OUTLINES = ("#ffd000", "#56b4e9", "#ff6fb5", "#3ddc97")  # of the mask channels: bright, because images are dark


def draw(images: ImageSet, label: str, n: int, seed: int) -> ImageSet:
    """At most `n` usable images of one class, drawn by chance so that nobody chooses the good ones; the same seed draws
    the same.
    """
    rows = images.manifest
    places = np.flatnonzero((rows["label"] == label) & (rows["problem"] == ""))
    keep = np.zeros(len(rows), dtype=bool)
    keep[np.random.default_rng(seed).permutation(places)[:n]] = True
    return images.where(keep)


def rows_of(image: Image) -> dict[str, list[str]]:
    """Rows of a sheet and the image channels in each: one for each channel, but one in all for red, green and blue."""
    if [c.lower()[:1] for c in image.originals] == ["r", "g", "b"]:
        return {"colour": image.originals}
    return {name: [name] for name in image.originals}


def sheet(images: ImageSet, image: Image) -> np.ndarray:
    """(height, width, 4) uint8 RGBA, clear between tiles: a column for each image of the set, a row for each of
    `rows_of`.

    Mask channels are outlined. Of a volume it is the middle slice along its first axis.
    """
    flat = images.images if images.images.ndim == 4 else images.images[:, :, images.images.shape[2] // 2]
    masks = image.index(image.masks)
    return _grid([[_tile(one[image.index(names)], one[masks]) for one in flat] for names in rows_of(image).values()])


def portrait(whole: np.ndarray, image: Image, edge: int = TILE) -> np.ndarray:
    """(height, width, 4) uint8 RGBA of one image (C, *S): a row for each of `rows_of`, masks outlined; the longest axis
    has `edge` pixels.

    Of a volume there is a column for each axis, with the slice of `places_of` across it; its first axis points up.
    """
    views = [whole]
    if whole.ndim == 4:
        across = [np.take(whole, place, axis + 1) for axis, place in enumerate(places_of(whole, image))]
        views = [across[0], *(view[:, ::-1] for view in across[1:])]
    edges = [max(1, round(edge * max(view.shape[1:]) / max(whole.shape[1:]))) for view in views]
    masks = image.index(image.masks)

    def row(names: list[str]) -> list[np.ndarray]:
        tiles = [_tile(v[image.index(names)], v[masks], of) for v, of in zip(views, edges, strict=True)]
        high = max(tile.shape[0] for tile in tiles)
        return [np.pad(tile, [(0, high - tile.shape[0]), (0, 0), (0, 0)]) for tile in tiles]

    return _grid([row(names) for names in rows_of(image).values()])


def places_of(whole: np.ndarray, image: Image) -> list[int]:
    """Along each axis of a volume (C, *S) the slice with most of its masks; the middle one where nothing is marked."""
    marked = (whole[image.index(image.masks)] > 0).any(0)
    others = [tuple(other for other in range(marked.ndim) if other != axis) for axis in range(marked.ndim)]
    if not marked.any():
        return [n // 2 for n in marked.shape]
    return [int(marked.sum(rest).argmax()) for rest in others]


@dataclass(frozen=True)
class Pairs:
    """What a model made of given channels, as (height, width, 4) uint8 RGBA: a column for each of `labels`, a row for
    each of `rows`.
    """

    rows: list[str]
    labels: list[str]
    picture: np.ndarray
    real: bool


def pairs(image: Image, images: ImageSet, real: ImageSet | None) -> Pairs:
    """The given channels of `images`, then each generated image channel: as generated and, where `real` has it, as it
    is, and how far both are apart, black for 0 and white for half of the range and more. Of a volume it is the middle
    slice along its first axis.
    """
    rows = {f"{name}, given": images.channels(image, [name]) for name in image.given}
    for name in image.derived:
        rows[f"{name}, given"] = _estimated(image, name, images)
    for name in (c for c in image.originals if c in image.generated):
        made = images.channels(image, [name])
        rows[f"{name}, generated"] = made
        if real is not None:
            true = real.channels(image, [name])
            rows |= {f"{name}, real": true, f"{name}, difference": 2 * np.abs(made - true) - 1}
    flat = {name: of if of.ndim == 4 else of[:, :, of.shape[2] // 2] for name, of in rows.items()}
    picture = _grid([[_tile(one, one[:0]) for one in of] for of in flat.values()])
    return Pairs(list(rows), list(images.manifest["label"]), picture, real is not None)


def _estimated(image: Image, name: str, images: ImageSet) -> np.ndarray:
    """(N, 1, *S): what a derived channel shows as an image."""
    import torch

    from fedsynth.operators import operator

    return operator(image, name).estimate(torch.from_numpy(images.channels(image, [name])[:, 0])).numpy()[:, None]


def misfit(whole: np.ndarray, found: np.ndarray, image: Image) -> np.ndarray:
    """(height, width, 4) uint8 RGBA of one image (C, *S): its own masks outlined in OUTLINES[0], `found` (M, *S) in
    OUTLINES[1].

    A row for each of `rows_of`. Of a volume it is the slice along its first axis that holds most of both.
    """
    masks = image.index(image.masks)
    own = whole[masks] > 0
    if whole.ndim == 4:
        slices = (own | found).sum((0, 2, 3))
        place = int(slices.argmax()) if slices.any() else len(slices) // 2
        whole, own, found = whole[:, place], own[:, place], found[:, place]
    both = np.stack([np.where(mask.any(0), 1.0, -1.0) for mask in (own, found)]).astype(np.float32)
    return _grid([[_tile(whole[image.index(names)], both)] for names in rows_of(image).values()])


def _grid(tiles: list[list[np.ndarray]]) -> np.ndarray:
    def join(parts: list[np.ndarray], axis: int) -> np.ndarray:
        between = [(0, 0)] * 3
        between[axis] = (0, GAP)
        padded = [np.pad(p, between, constant_values=0) for p in parts[:-1]]
        return np.concatenate([*padded, parts[-1]], axis)

    if not tiles or not tiles[0]:
        return np.zeros((0, 0, 4), np.uint8)
    return join([join(row, 1) for row in tiles], 0)


def _tile(planes: np.ndarray, masks: np.ndarray, edge: int = TILE) -> np.ndarray:
    """(h, w, 4) uint8 of planes (1 or 3, H, W) in [-1, 1], with a line around each mask (M, H, W)."""
    from PIL.Image import Resampling

    gray = np.stack([_resize(p, Resampling.BICUBIC, edge) for p in planes], -1).clip(-1, 1)
    tile = np.full((*gray.shape[:2], 4), 255, np.uint8)
    tile[..., :3] = np.round((gray + 1) * 127.5)
    for mask, colour in zip(masks, OUTLINES * math.ceil(len(masks) / len(OUTLINES)), strict=False):
        tile[_outline(_resize(mask, Resampling.BILINEAR, edge) > 0), :3] = list(bytes.fromhex(colour[1:]))
    return tile


def _resize(plane: np.ndarray, how: Any, edge: int) -> np.ndarray:
    from PIL import Image as pil

    factor = edge / max(plane.shape)
    size = (max(1, round(plane.shape[1] * factor)), max(1, round(plane.shape[0] * factor)))  # PIL says width first
    return np.asarray(pil.fromarray(np.ascontiguousarray(plane, dtype=np.float32)).resize(size, how))


def _outline(mask: np.ndarray) -> np.ndarray:
    """The pixels just outside of a mask (H, W) bool, so that the lesion itself stays in sight."""
    around = mask.copy()
    around[1:] |= mask[:-1]
    around[:-1] |= mask[1:]
    around[:, 1:] |= mask[:, :-1]
    around[:, :-1] |= mask[:, 1:]
    return around & ~mask


def samples(real: ImageSet | None, synthetic: ImageSet, image: Image, seed: int, n: int = 6) -> Picture:
    """One picture with a block for each class: `n` real images, drawn by chance, beside `n` synthetic ones. Without
    `real`, those alone.
    """
    from PIL import Image as pil
    from PIL import ImageDraw

    sides = ([("real", real)] if real is not None else []) + [("synthetic", synthetic)]
    blocks = {label: [(side, sheet(draw(of, label, n, seed), image)) for side, of in sides] for label in image.labels}
    widths = [max(blocks[label][i][1].shape[1] for label in image.labels) for i in range(len(sides))]
    left, apart, head, foot = 64, 28, 44, 14
    heights = [max(s.shape[0] for _, s in pair) for pair in blocks.values()]
    size = (
        left + sum(max(w, TILE) for w in widths) + apart * (len(sides) - 1) + foot,
        foot + sum(head + h + foot for h in heights),
    )
    canvas = pil.new("RGB", size, "white")
    pen = ImageDraw.Draw(canvas)
    y = foot
    for (label, pair), height in zip(blocks.items(), heights, strict=True):
        pen.text((foot, y), label, "black", font(17))
        for row, name in enumerate(rows_of(image)):
            pen.text((foot, y + head + row * (height + GAP) / len(rows_of(image))), name, "#555555", font(13))
        x = left
        for (side, tiles), width in zip(pair, widths, strict=True):
            pen.text((x, y + 23), side if tiles.size else f"{side}: none of this class", "#555555", font(13))
            if tiles.size:
                picture = pil.fromarray(tiles)
                canvas.paste(picture, (x, y + head), picture)
            x += max(width, TILE) + apart
        y += head + height + foot
    return canvas


def font(size: int) -> Any:
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def png(picture: np.ndarray | Picture) -> bytes:
    from PIL import Image as pil

    buffer = io.BytesIO()
    (pil.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(buffer, "PNG")
    return buffer.getvalue()
