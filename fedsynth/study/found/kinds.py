"""What files are, by their headers: axes, gray or colour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.data import reading
from fedsynth.data.manifest import SetError
from fedsynth.data.planes import BITS8, COLOURS, GRAY
from fedsynth.study.found.layout import PICTURES

LOOKED = 24  # colour pictures that are decoded, to see whether they are gray in truth
GRAYS = ("1", "L", "LA", "I", "I;16", "I;16B", "F")
RGB: dict[str, Any] = dict.fromkeys(COLOURS, "image")


def some(items: Sequence[Any], n: int = LOOKED) -> list[Any]:
    """At most `n` of a list, evenly spaced."""
    if len(items) <= n:
        return list(items)
    return [items[place] for place in np.linspace(0, len(items) - 1, n).round().astype(int)]


def dims_of(folder: Path, files: Sequence[str]) -> int:
    """Spatial axes of most files: 3 of volumes. A volume of one slice is an image of two axes."""
    found = Counter(axes for file in some(files) if (axes := _axes(folder / file)))
    return found.most_common(1)[0][0] if found else 2


def _axes(path: Path) -> int:
    """0 where it cannot be told."""
    if path.name.lower().endswith(PICTURES):
        return 2
    for dims in (2, 3):
        try:
            reading.read(path, dims)
        except SetError:
            continue
        return dims
    return 0


def colours(folder: Path, files: Sequence[str], gray: str) -> tuple[dict[str, Any], list[str]]:
    """The image channels of pictures, by default `gray`, and what was seen of them."""
    modes = {file: mode for file in files if (mode := _mode(folder / file))}
    coloured = [file for file, mode in modes.items() if mode not in GRAYS]
    true = [file for file in some(coloured) if _coloured(folder / file)]
    if not true:
        said = ["pictures are saved in colour, and are gray"] if coloured else []
        return {gray: {"image": "luminance", "of": ["rgb"]} if coloured else "image"}, said
    grays = len(modes) - len(coloured)
    if not grays:
        return dict(RGB), []
    if grays > 0.2 * len(modes):
        said = [f"{grays} of {len(modes)} pictures are gray, the others in colour: all are read as brightness"]
        return {gray: {"image": "luminance", "of": ["rgb"]}}, said
    said = [f"{grays} of {len(modes)} pictures are gray: red, green and blue are copies of them"]
    return {name: {"image": "copy", "of": ["gray"]} for name in COLOURS}, said


def _mode(path: Path) -> str:
    """Pillow's word for the pixels of a picture, by its header; "" where it is none."""
    from PIL import Image as Pillow

    if not path.name.lower().endswith(PICTURES):
        return ""
    try:
        with Pillow.open(path) as opened:
            return str(opened.mode)
    except (OSError, ValueError, SyntaxError):  # it is named when the images are read
        return ""


def _coloured(path: Path) -> bool:
    try:
        planes = reading.read(path, 2)
    except SetError:
        return False
    return len(planes.values) == 3 and float(np.ptp(planes.values, 0).max()) > GRAY * BITS8[1]
