"""What a measure looks at, made by hand: a small real set, a synthetic one, untrained networks and features that are
easy to follow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.features import Extractor
from fedsynth.measures import MeasureInputs
from fedsynth.params import Params
from fedsynth.uses.classification import Classification
from fedsynth.uses.segmentation import Segmentation
from tests.sets import make_set


class Blocks(Extractor):
    """(N, I · 2^D): each channel's mean over the halves of each axis."""

    title = "means of blocks"

    def open(self, networks: Any, folder: Path) -> Blocks:
        return self

    def features(self, images: np.ndarray) -> np.ndarray:
        shape = [part for size in images.shape[2:] for part in (2, size // 2)]
        halves = images.reshape(*images.shape[:2], *shape)
        return (
            halves.mean(tuple(range(3, halves.ndim, 2)))
            .reshape(len(images), images.shape[1] * 2 ** (images.ndim - 2))
            .astype(np.float64)
        )


def look(
    folder: Path, params: Params, n: int = 60, synthetic: int = 60, site: str = "north", **changes: Any
) -> MeasureInputs:
    """A site's sight of n real images (40 % of them held out) and `synthetic` others that are drawn alike. `changes`
    are fields of MeasureInputs.
    """
    real = make_set(folder / site, params, site, n)
    train = (real.manifest["split"] == "train").to_numpy(dtype=bool)
    made = make_set(folder / "synthetic", params, "synthetic", synthetic, seed=1)
    fields: dict[str, Any] = {
        "held_out": real.where(~train),
        "train": real.where(train),
        "networks": untrained(params),
        "seed": 1,
    }
    return MeasureInputs(params.image, made, Blocks(), **(fields | changes))


def centre(seen: MeasureInputs, **changes: Any) -> MeasureInputs:
    """The centre's sight: the same without real images."""
    return MeasureInputs(
        seen.image,
        seen.synthetic,
        seen.extractor,
        **({"networks": seen.networks, "family": seen.family, "seed": 1} | changes),
    )


def untrained(params: Params) -> dict[str, Any]:
    known = params.image.context()
    shape = {"images": known["images"], "size": known["size"]}
    uses: dict[str, Any] = {"classification": Classification(labels=known["labels"], **shape)}
    if known["masks"]:
        uses["segmentation"] = Segmentation(masks=known["masks"], **shape)
    return {name: (use, use.network(1)) for name, use in uses.items()}
