"""Small cells: counts below the smallest cell, and numbers from which such a count could be derived."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedsynth.validation.verdict import count, withhold

MIN_CELL = 5
COUNTED = ("real", "train", "synthetic", "members", "non_members")  # images that a measure may say it rests on
Shown = Mapping[str, Mapping[str, int | str]]  # class -> split -> images, as validation shows them


def shown(manifest: Any, labels: list[str], min_cell: int) -> dict[str, dict[str, int | str]]:
    """What validation has shown of these images: each class and split, small ones as "< 5"."""
    return {
        label: {s: withhold(n, min_cell) for s, n in splits.items()}
        for label, splits in count(manifest, labels).items()
    }


def any_hidden(cells: Shown, *splits: str) -> bool:
    """Whether a class has too few images in one of these splits."""
    return any(isinstance(of[split], str) for of in cells.values() for split in splits)


def total_shown(cells: Shown, *splits: str) -> int:
    """Images in these splits, of the cells that are shown."""
    return sum(n for of in cells.values() for split in splits if isinstance(n := of[split], int))


def told(n: int, cells: Shown, min_cell: int, *splits: str) -> int:
    """A number of images of these splits, as the centre may know it.

    Where a cell is hidden, those that are shown. Where all but a few images count (whose masks are unknown, say), all
    of them: their number would say how few do not.
    """
    total = total_shown(cells, *splits)
    return total if any_hidden(cells, *splits) or 0 < total - n < min_cell else n
