"""What a sampler mends in a synthetic set: masks that it empties, and images that it draws again, as counts and rates.

A class named by `image.empty_labels` has no mask, every other class has one. What a model draws otherwise is mended, so
that the set keeps the expectations; how often tells how well the model knows its labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fedsynth.params import Image

if TYPE_CHECKING:
    import pandas as pd

FILE = "mends.json"  # beside the manifest of a synthetic set
EMPTIED, AGAIN = "masks_emptied", "drawn_again"
NONE = "nothing was counted: there is no mask to mend, or no image of such a class"
MEANING = {
    EMPTIED: "of the images of classes without a mask ({without}), the share in which the model had marked something;"
    " the mask was taken away",
    AGAIN: "of all draws of images of the other classes, the share without any mask; these were drawn again",
}


def lacks(image: Image) -> str:
    """Why a set is not mended; "" if it may be."""
    if not any(name in image.generated for name in image.masks):
        return "needs a mask channel that is generated, and image.channels names none"
    return "" if image.empty_labels else "needs a class without a mask, and image.empty_labels names none"


def counted(image: Image, manifest: pd.DataFrame, found: Counter[str]) -> dict[str, int]:
    """The counts as they are kept beside a set: its images without and with a mask, and what was mended."""
    without = int(manifest["label"].isin(image.empty_labels).sum())
    return {"without": without, "with": len(manifest) - without, EMPTIED: found["masks emptied"],
            AGAIN: found["drawn again"]}  # fmt: skip


def rates(counts: Mapping[str, int] | None) -> dict[str, float | None]:
    """EMPTIED and AGAIN as shares; None where nothing was counted, or no image could have been mended so."""
    if counts is None:
        return {EMPTIED: None, AGAIN: None}
    draws = counts["with"] + counts[AGAIN]
    return {
        EMPTIED: round(counts[EMPTIED] / counts["without"], 4) if counts["without"] else None,
        AGAIN: round(counts[AGAIN] / draws, 4) if draws else None,
    }
