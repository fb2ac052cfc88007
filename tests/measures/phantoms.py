"""Phantoms of one site for the privacy audit: anatomy and noise make them as different as patients are, which made-up
boxes are not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.measures import MeasureInputs
from fedsynth.stages.ingest import ingest_site
from tests.measures.seen import Blocks
from tests.sets import tiny_params

PARAMS = tiny_params()


def phantoms(folder: Path, n: int, seed: int = 1, size: int = 16) -> ImageSet:
    """About n images, as ingest writes them; another seed is other patients."""
    source = {"class_path": "fedsynth.sources.phantom.Phantom", "args": {"sites": {"north": {"images": n}}}}
    image = {"size": [size, size], "scale": {"percentiles": [0, 100], "of": "image"}}  # as params.yaml has it
    params = tiny_params(source=source, image=image, seed=seed, split={"val": 0.1, "test": 0.3})
    ingest_site(params, params.source.build(image=params.image, seed=seed), "north", folder)
    return ImageSet.load(folder / "north")


def halves(real: ImageSet, train: int | None = None) -> tuple[ImageSet, ImageSet]:
    """(held_out, train), of the latter the first `train`."""
    member = (real.manifest["split"] == "train").to_numpy(dtype=bool)
    return real.where(~member), real.where(member & (np.cumsum(member) <= (train or len(real))))


def site(real: ImageSet, synthetic: ImageSet, **changes: Any) -> MeasureInputs:
    held_out, train = halves(real, changes.pop("of_train", None))
    return MeasureInputs(
        PARAMS.image, synthetic, Blocks(), **({"held_out": held_out, "train": train, "seed": 1} | changes)
    )


def changed(images: ImageSet, to: np.ndarray) -> ImageSet:
    """The set with other pixels."""
    return ImageSet(images.manifest, to.astype(np.float32))
