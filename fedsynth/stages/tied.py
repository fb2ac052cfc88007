"""Ties what is sent to be scored to trainings at this site: the set to its model, model and networks to trainings."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.hospital.policy.drift import Drift
from fedsynth.hospital.policy.model import Floors, PolicyError
from fedsynth.params import Params
from fedsynth.stages import sample

if TYPE_CHECKING:
    from fedsynth.families import Family

DRAWN = 0.05  # largest mean absolute difference of an image and the same drawn here; other processors round otherwise
Arrays = dict[str, np.ndarray]


def drawn(floors: Floors, params: Params, family: Family, sent: ImageSet, name: str = "") -> None:
    """Raise PolicyError where the set was not drawn by `family` with the study's seed.

    It is drawn again as a whole, or one batch of it that the centre cannot foresee (`floors.drawn`); images of the
    batch that needed another attempt are then not compared.
    """
    if floors.drawn == "no":
        return
    ours = _again(params, family, sent, name) if floors.drawn == "all" else _batch(params, family, sent)
    apart = [float(np.abs(image - np.asarray(sent.images[place], np.float32)).mean()) for place, image in ours.items()]
    if (wrong := sum(not of <= DRAWN for of in apart)) or not apart:
        said = f"{wrong} of {len(apart)} images of the set are not those that its model draws with the study's seed"
        raise PolicyError("floors.drawn", said)


def _again(params: Params, family: Family, sent: ImageSet, name: str) -> dict[int, np.ndarray]:
    """Return the set's images as the model draws them here, by their places."""
    known = sent if params.image.given else None
    try:
        return dict(enumerate(sample.draw_images(family, params, name, sent.labels(params.image), known)))
    except sample.SampleError as error:
        raise PolicyError("floors.drawn", f"the model does not draw such a set: {error}") from error


def _batch(params: Params, family: Family, sent: ImageSet) -> dict[int, np.ndarray]:
    places = sent.labels(params.image)
    parts = sample.batches(params, np.arange(len(sent)))
    number = secrets.randbelow(len(parts))
    part = sent.where(np.isin(np.arange(len(sent)), parts[number]))
    again = sample.draw_batch(family, params, places[parts[number]], part if params.image.given else None, 0, number)
    missing = set(sample.clean(params.image, again, places[parts[number]], np.arange(len(part))).tolist())
    return {int(place): again[i] for i, place in enumerate(parts[number]) if i not in missing}


def trained(floors: Floors, folder: Path, name: str, arrays: Arrays) -> None:
    """Raise PolicyError where `arrays` are farther from the end of every training here than one round moves them.

    `folder`, `name`: of the trainings' kept weights, <folder>/<name>*.global.safetensors (policy/drift.py).
    """
    if not floors.trained or floors.moved is None:
        return
    reasons = []
    for path in sorted(Path(folder).glob(f"{name}*.global.safetensors")):
        known = Drift(floors, path, dict, 0.0)
        try:
            return known.near(known.shared(arrays))
        except PolicyError as error:
            reasons.append(str(error))
    said = reasons[-1].partition(": ")[2] if reasons else "no training has left its state here: the site took no part"
    raise PolicyError("floors.trained", f"{name or 'networks'}: {said}")
