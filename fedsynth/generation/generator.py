"""A released model in Python: `fedsynth.load`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedsynth.generation.order import Labels, Order, order, parts
from fedsynth.generation.source import released

if TYPE_CHECKING:
    from fedsynth.generation.released import Released


class Batch(NamedTuple):
    """`images` (B, C, *S), float32 in [-1, 1], masks -1 or 1, and the label of each.

    C: the channels in the order of `Generator.channels`; *S: `Generator.size`.
    """

    images: np.ndarray
    labels: list[str]


class Generator:
    """A model that draws images.

    `labels`: what it can be asked for; `size`: (H, W) or (D, H, W); `channels`: name -> "image" or "mask", in the order
    of the arrays; `given`: the channels that it does not draw itself; `title`: model and version; `card`: its model
    card, in Markdown.
    """

    def __init__(self, model: Released):
        image = model.image
        self.title, self.card = model.title, model.card
        self.labels, self.size, self.channels, self.given = image.labels, image.size, image.channels, image.given
        self._model = model

    def generate(
        self, images: int, label: Labels = None, seed: int = 0, batch: int = 64, given: str | Path | None = None
    ) -> Iterator[Batch]:
        """Draw `images` images, in batches of `batch`, the last of which may be smaller.

        `label`: one or several, in equal shares; None: all, in the shares of the study. `given`: a folder with images
        that have the given channels. The same seed gives the same images, in batches of any size.
        """
        if batch < 1:
            raise ValueError(f"batch must be at least 1, not {batch}")
        return _batches(self._model, order(self._model, images, label, seed, given), batch)

    def __repr__(self) -> str:
        return f"<fedsynth Generator: {self.title}, {' + '.join(self.channels)} for {', '.join(self.labels)}>"


def load(
    model: str | Path, version: int | None = None, study: str | Path = ".", although: str = "", by: str = ""
) -> Generator:
    """Load a released model: "champion", the name of a model (its champion, or a `version`), a folder or an archive.

    `study`: the folder of the study in whose registry names are looked up. `although`: why a version that is stale or
    has no hashes is used nevertheless; `by`: who decides that.
    """
    return Generator(released(model, version, study, although, by))


def _batches(model: Released, wanted: Order, batch: int) -> Iterator[Batch]:
    names = wanted.params.image.labels
    left, done = np.empty((0, len(wanted.params.image.channels), *wanted.params.image.size), np.float32), 0
    for part in parts(model, wanted, Counter()):
        left = np.concatenate([left, part])
        while len(left) >= batch or (len(left) and done + len(left) == len(wanted)):
            some, left = left[:batch], left[batch:]
            yield Batch(some, [names[place] for place in wanted.places[done : done + len(some)]])
            done += len(some)
