"""What measures need of a study: a mask, a use. Each function returns what is missing, "" if nothing is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedsynth.params import Image
    from fedsynth.uses import Use


def a_mask(image: Image) -> str:
    """A mask channel, and a class whose mask is not empty."""
    if not image.masks:
        return "needs a mask channel, and image.channels names none"
    if set(image.labels) <= set(image.empty_labels):
        return "needs a class with a mask, and image.empty_labels names all of image.labels"
    return ""


def a_use(kind: type[Use], uses: Iterable[Use]) -> str:
    """A use of this class."""
    if any(isinstance(use, kind) for use in uses):
        return ""
    return f"needs a use of the class {kind.__name__}, and score.uses names none"
