"""Small cells: counts below the smallest cell, and numbers from which such a count could be derived."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from fedsynth.validation.verdict import count, withhold

MIN_CELL = 5
COUNTED = (
    "real",
    "train",
    "synthetic",
    "members",
    "non_members",
    "canaries",
)  # images that a measure may say it rests on
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


def most_told(subjects: Any, labels: Any, cells: Shown, min_cell: int, split: str) -> int:
    """A number of images that no subject has more of in this split, as the centre may know it.

    `subjects` and `labels` are those of each image. In each hidden cell a subject may have all but one of `min_cell`.
    """
    hidden = [label for label, of in cells.items() if isinstance(of[split], str)]
    of_shown = [subject for subject, label in zip(subjects, labels, strict=True) if label not in hidden]
    return max(1, max(Counter(of_shown).values(), default=0) + len(hidden) * (min_cell - 1))


def told(n: int, cells: Shown, min_cell: int, *splits: str) -> int:
    """A number of images of these splits, as the centre may know it.

    Where a cell is hidden, those that are shown. Where all but a few images count (whose masks are unknown, say), all
    of them: their number would say how few do not.
    """
    total = total_shown(cells, *splits)
    return total if any_hidden(cells, *splits) or 0 < total - n < min_cell else n
