"""Source: procedural textures with shapes, which cost no patient anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fedsynth.data.procedural import SHAPES, TEXTURES, shape, texture
from fedsynth.params import Image
from fedsynth.sources import Record, Source

SITE = "procedural"


class Procedural(Source):
    """One site of so many `images` of every label, in the study's own channels and size, for `score.public`.

    An image is a texture. A label that is not one of `image.empty_labels` has a shape on it, by its place another one,
    of another texture and brightness in each channel; the shape is what every mask channel marks. So it holds what can
    be said of a study by its labels alone, and nothing of its anatomy. Each image is a subject.
    """

    def __init__(self, image: Image, seed: int, images: int = 100):
        if images < 1:
            raise ValueError(f"images must be 1 or more, not {images}")
        self.image, self.seed, self.images = image, seed, images

    def sites(self) -> list[str]:
        return [SITE]

    def units(self, site: str) -> Sequence[int]:
        return range(self.images * len(self.image.labels))

    def of_unit(self, site: str, unit: int) -> Iterator[Record]:
        label = self.image.labels[unit % len(self.image.labels)]
        channels = self._draw(label, np.random.default_rng([self.seed, unit]))
        size = tuple(self.image.size) if self.image.masks else None
        yield Record(channels, label, f"{site}-{unit:05d}", file=f"{site}/{unit:05d}", mask_shape=size)

    def _draw(self, label: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
        size = tuple(self.image.size)
        where = np.zeros(size)
        if label not in self.image.empty_labels:
            where = shape(SHAPES[self.image.labels.index(label) % len(SHAPES)], size, rng)
        found = {}
        for name, kind in self.image.channels.items():
            if kind == "mask":
                found[name] = (where > min(0.5, where.max() / 2)).astype(np.float32)
                continue
            ground, inner = (texture(TEXTURES[int(rng.integers(len(TEXTURES)))], size, rng) for _ in range(2))
            bright = rng.uniform(0.3, 1.0) * rng.choice([-1.0, 1.0])
            plane = 0.15 * ground + where * (bright + 0.1 * inner - 0.15 * ground)
            found[name] = (plane + 0.03 * rng.normal(size=size)).astype(np.float32)
        return found
