"""What is to be drawn: labels, given channels and seed, and the images of it, one part after the other."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.data.manifest import ARRAY
from fedsynth.errors import UserError
from fedsynth.params import Block, Image, Params, Score
from fedsynth.params.near import near
from fedsynth.stages import sample

if TYPE_CHECKING:
    from fedsynth.data.dataset import ImageSet
    from fedsynth.generation.released import Released

TABLE = "fedsynth.sources.table.Table"
MOST, PIXELS = 64, 2**20  # images of a part; pixels (voxels) of all of them together
Labels = str | Sequence[str] | None


class OrderError(UserError):
    """What was asked for cannot be drawn; the message says what there is."""


@dataclass(frozen=True)
class Order:
    """N images that are to be drawn: `places` (N,) of their labels, and of each, if channels are given, its place in
    the set `given`. `params`: what the stage `sample` reads of a params.yaml.
    """

    params: Params
    places: np.ndarray
    given: ImageSet | None = None
    turns: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.places)


def order(model: Released, images: int, label: Labels, seed: int, given: str | Path | None) -> Order:
    """Return the order. `label`: one or several, in equal shares; None: the shares of the study's `sample.balance`.

    A deterministic model makes one image of each that is given, and no more. Raises OrderError for an unknown label, a
    number out of range, or given channels that lack or are not wanted.
    """
    params = _params(model, images, [label] if isinstance(label, str) else list(label or []), seed, given)
    places, image = sample.labels(params), params.image
    if not image.given:
        return Order(params, places)
    with tempfile.TemporaryDirectory(prefix="fedsynth-") as work, contextlib.redirect_stdout(sys.stderr):
        known = sample.given_set(params, model.about["sites"], Path(work))
        assert known is not None
        known = replace(known, images=np.asarray(known.images))  # its files go with the folder
    if model.family.deterministic:
        places = places[sample.first(places, known.labels(image))]
    return Order(params, places, known, sample.turns(image, known, places))


def parts(model: Released, wanted: Order, mends: Counter[str]) -> Iterator[np.ndarray]:
    """Yield the images (B, all channels, *S) of an order, masks -1 or 1, in parts whose size follows from the model.

    The random numbers of a part follow from the seed and its number alone. `mends` is counted up.
    """
    size = part_size(wanted.params.image)
    for number, start in enumerate(range(0, len(wanted), size)):
        part = slice(start, start + size)
        some, known = wanted.places[part], None
        if wanted.given is not None and wanted.turns is not None:
            chosen = wanted.turns[part]
            known = type(wanted.given)(wanted.given.manifest.iloc[chosen], wanted.given.images[chosen])
        params = wanted.params.model_copy(update={"seed": _seed(wanted.params.seed, number)})
        params.sample = params.sample.model_copy(update={"batch": size})
        yield sample.draw_images(model.family, params, model.name, some, known, mends)


def part_size(image: Image) -> int:
    """Return how many images are drawn at once: it follows from their size, so that no setting changes the images."""
    return max(1, min(MOST, PIXELS // prod(image.size)))


def _seed(seed: int, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:7], "big")


def _params(model: Released, images: int, labels: list[str], seed: int, given: str | Path | None) -> Params:
    """Return what the stage `sample` reads of a params.yaml: of the model's study, if that is at hand, else defaults.

    No least number of images is asked of a class: a person has asked for this number.
    """
    image = model.image
    for name in labels:
        if name not in image.labels:
            known = ", ".join(image.labels)
            raise OrderError(f"{model.title} knows no label {name!r}; it knows {known}{near(name, image.labels)}")
    if images < 1 or not 0 <= seed < 2**63:
        raise OrderError(f"{images} images with seed {seed}: at least 1 image, and a seed from 0 to 2^63 - 1")
    base = model.study or _defaults(image)
    changes: dict[str, Any] = {"images": images, "balance": dict.fromkeys(labels, 1.0) or base.sample.balance}
    changes["given"] = _given(model, base.sample.given, given)
    return base.model_copy(
        update={
            "seed": seed,
            "image": image,
            "sample": base.sample.model_copy(update=changes),
            "expectations": base.expectations.model_copy(update={"min_images": {}}),
        }
    )


def _defaults(image: Image) -> Params:
    unread = Block(class_path=TABLE)  # the hospitals' images, of which nothing is read here
    return Params(source=unread, image=image, models={}, score=Score(uses={}))


def _given(model: Released, of_study: Block | str | None, folder: str | Path | None) -> Block | str | None:
    """Return the images of the given channels: a set, or the source of a folder with images and their table."""
    names = " + ".join(model.image.given)
    if not names and folder is not None:
        raise OrderError(f"{model.title} makes images from nothing but a label; leave --given {folder} out")
    if names and folder is None and of_study is None:
        raise OrderError(
            f"{model.title} makes {' + '.join(model.image.generated)} from {names}: name with --given FOLDER images"
            f" that have {names} (a set with manifest.csv and {ARRAY}, or image files with a manifest.csv)"
        )
    if folder is None:
        return of_study
    path = Path(folder).resolve()
    if not path.is_dir():
        raise OrderError(f"--given {folder} is no folder")
    return str(path) if (path / ARRAY).is_file() else Block(class_path=TABLE, args={"folder": str(path)})
