"""What the page of `fedsynth look` shows of each image: its picture, what the manifest says of it, and histograms."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from fedsynth.data import pictures
from fedsynth.params import Image
from fedsynth.validation import look_charts, look_summary
from fedsynth.validation.look_set import KINDS, Looked

FLAT = 168  # screen pixels: the longer edge of a picture that is no volume
LARGEST = 6 * 2**20  # bytes of the pictures of a page


def cards(of: Looked, order: list[int]) -> list[dict[str, Any]]:
    """A card for each place of `order` until the pictures are too large; those with a remark first, the gravest
    before the others, then by class.
    """
    found: dict[int, dict[str, Any]] = {}
    size = 0
    for place in order:
        card = _card(of, place)
        size += len(card["src"])
        if size > LARGEST and found:
            break
        found[place] = card

    def gravest(place: int) -> tuple[int, int, int]:
        kinds = [KINDS.index(kind) for kind in of.remarks[place]]
        return min(kinds, default=len(KINDS)), of.classes.index(of.records[place]["label"]), place

    return [found[place] for place in sorted(found, key=gravest)]


def _card(of: Looked, place: int) -> dict[str, Any]:
    row, whole = of.records[place], of.images[place]
    usable = not row["problem"]
    channels = [_channel(of, place, name, n) for n, name in enumerate(of.image.images)] if usable else []
    return {
        "id": row["image_id"],
        "label": row["label"] or "(no label)",
        "remarks": of.remarks[place],
        "facts": {name: value for name, value in _facts(row, whole, of.image).items() if value},
        "channels": channels,
        "rows": list(pictures.rows_of(of.image)),
        "src": _uri(pictures.png(pictures.portrait(whole, of.image, FLAT if whole.ndim == 3 else pictures.TILE)))
        if usable
        else "",
        "alt": _alt(row, whole, of.image),
    }


def _facts(row: dict[str, Any], whole: np.ndarray, image: Image) -> dict[str, str]:
    read = {
        "file": row["file"],
        "subject": f"{row['subject']}, {row['split']}",
        "size": look_summary.times(row["source_shape"]),
    }
    if row["problem"]:
        return read
    return read | {
        "size": f"{look_summary.times(row['source_shape'])} → {look_summary.times(row['shape'])}",
        "spacing": f"{look_summary.times(row['spacing_mm'])} mm as stored" if row["spacing_mm"] else "unknown",
        "mask": _marked(row, whole, image),
        "outside of the body": f"{row['outside']:.1%}" if row["outside"] else "",
        "slices": ", ".join(map(str, pictures.places_of(whole, image))) if whole.ndim == 4 else "",
    }


def _marked(row: dict[str, Any], whole: np.ndarray, image: Image) -> str:
    known = [name for name in image.masks if name not in row["lacks"].split("+")]
    what = "voxels" if whole.ndim == 4 else "pixels"
    return f"{row['mask_area']} of {whole[0].size * len(known)} {what}" if known else "unknown" if image.masks else ""


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _alt(row: dict[str, Any], whole: np.ndarray, image: Image) -> str:
    masks = zip(image.masks, whole[image.index(image.masks)], strict=True)
    marked = [name for name, plane in masks if (plane > 0).any()]
    outlined = f"{', '.join(marked)} outlined" if marked else "nothing marked" if image.masks else ""
    what = ("three slices of " if whole.ndim == 4 else "") + row["image_id"]
    return ", ".join(text for text in (what, row["label"], "+".join(pictures.rows_of(image)), outlined) if text)


def _channel(of: Looked, place: int, name: str, number: int) -> dict[str, str]:
    """Histograms of one channel before and after scaling, and the values that became -1 and 1."""
    row, counts = of.records[place], look_summary.stored(of.images[place, number])
    read, limits = (look_summary.ranges(row[cell], [name]).get(name) for cell in ("values", "scaled"))
    card = {"name": name, "read": _between(read), "limits": _between(limits), "before": ""}
    if read and of.read is not None and of.read[place, number].any():
        wide = (read[1] - read[0]) or 1.0
        marks = tuple((limit - read[0]) / wide for limit in limits or ())
        became = f"; {card['limits']} became -1 to 1" if limits else ""
        card["before"] = look_charts.bars(of.read[place, number], f"{name} as read, {card['read']}{became}", marks)
    return card | {"after": look_charts.bars(counts, f"{name} as stored, from -1 to 1")}


def _between(ends: tuple[float, float] | None) -> str:
    return f"{ends[0]:.6g} to {ends[1]:.6g}" if ends else ""
