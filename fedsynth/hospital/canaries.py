"""Canaries: images of no patient that a site puts into its own training, so that the audit can show what it finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedsynth.data import manifest as table
from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.hospital import secret
from fedsynth.params import Image, Params

FOLDER = "canaries"  # <state>/<site>/canaries/<model>: how many were made for its training
COARSE, FINE, MARKED = 5, 0.5, 0.1  # points a side of the smooth part, share of the grain, share of an image in a mask


def among(train: ImageSet, params: Params, state: Path, model: str) -> ImageSet:
    """Returns the training images with the canaries that this training gets, and notes that it has them.

    `state`: the site's folder. Who asks for a training must not count them: weight and steps follow from the images.
    """
    if not params.audit.canaries:
        return train
    (state / FOLDER).mkdir(parents=True, exist_ok=True)
    (state / FOLDER / model).write_text(f"{params.audit.canaries}\n", encoding="utf-8")
    return concatenate([train, _dealt(params, state, model)[0]])


def of_training(params: Params, state: Path, model: str) -> tuple[ImageSet, ImageSet] | None:
    """Returns the canaries that the model's training here had, and those that it had not; None if it had none."""
    note = state / FOLDER / model
    if not note.is_file() or int(note.read_text(encoding="utf-8")) != params.audit.canaries:
        return None
    return _dealt(params, state, model)


def _dealt(params: Params, state: Path, model: str) -> tuple[ImageSet, ImageSet]:
    """Returns the canaries by the toss of a coin for each: what is proven of epsilon rests on it.

    Images and coins follow from the site's secret, so nobody else knows them and nothing need be kept.
    """
    seed = secret.number(state, f"canaries of {model} with the seed {params.seed}")
    made = make(params.image, params.audit.canaries, seed)
    inside = np.random.default_rng([seed, 1]).random(len(made)) < 0.5
    return made.where(inside), made.where(~inside)


def make(image: Image, n: int, seed: int) -> ImageSet:
    """Returns n marked images, each of a label in turn: smooth random fields under a grain of single pixels.

    No two are alike and none is like a patient's, so that a model knows one only by having seen it. Masks are where
    the first field is highest, and empty where the label says so.
    """
    from fedsynth.operators import derive

    rng, rows, arrays = np.random.default_rng(seed), [], []
    for i in range(n):
        label, name = image.labels[i % len(image.labels)], f"canary-{i:05d}"
        planes = {channel: _field(rng, image.size) for channel in image.sourced.images}
        first = next(iter(planes.values()))
        marked = (first >= np.quantile(first, 1 - MARKED)) & (label not in image.empty_labels)
        planes |= {channel: np.where(marked, 1.0, -1.0) for channel in image.masks}
        array = np.stack([planes[channel] for channel in image.sourced.channels]).astype(np.float32)
        arrays.append(derive(image, array, f"{seed}/{name}") if image.derived else array)
        facts = {"image_id": name, "subject": name, "label": label, "index": i, "split": "train", "origin": "canary"}
        rows.append(table.row(len(image.images), arrays[-1], site="", modality="+".join(image.images), **facts))
    return ImageSet(table.frame(rows), np.stack(arrays))


def _field(rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    """Returns (*S) values in (-1, 1), with as much variance in every field: none is harder to learn than another."""
    from scipy.ndimage import zoom

    smooth = zoom(rng.normal(size=[min(COARSE, side) for side in size]), [s / min(COARSE, s) for s in size], order=1)
    grain = rng.normal(size=size)
    return np.tanh(sum(share * (f - f.mean()) / f.std() for share, f in ((1.0, smooth), (FINE, grain))))
