"""Ties what is sent to be scored to a training at this site: the set to its model, the model to the training."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.hospital.policy.model import Floors, PolicyError
from fedsynth.params import Params
from fedsynth.stages import sample
from fedsynth.training import checkpoint

if TYPE_CHECKING:
    from fedsynth.families import Family

DRAWN = 0.05  # largest mean absolute difference of an image and the same drawn here; other processors round otherwise


def drawn(floors: Floors, params: Params, family: Family, sent: ImageSet) -> None:
    """Raise PolicyError where the set was not drawn from `family` with the study's seed.

    One batch, which the centre cannot foresee, is drawn again. Images that needed another attempt are not compared.
    """

    if not floors.drawn:
        return
    image, places = params.image, sent.labels(params.image)
    parts = sample.batches(params, np.arange(len(sent)))
    number = secrets.randbelow(len(parts))
    part = sent.where(np.isin(np.arange(len(sent)), parts[number]))
    again = sample.draw_batch(family, params, places[parts[number]], part if image.given else None, 0, number)
    missing = sample.clean(image, again, places[parts[number]], np.arange(len(part)))
    apart = np.abs(again - np.asarray(part.images, np.float32)).reshape(len(part), -1).mean(1)
    apart[missing] = 0
    if (wrong := int((apart > DRAWN).sum())) or len(missing) == len(part):
        said = f"{wrong} of {len(part)} images of the set are not those that its model draws with the study's seed"
        raise PolicyError("floors.drawn", said)


def trained(floors: Floors, state: Path, name: str, arrays: dict[str, np.ndarray]) -> None:
    """Raise PolicyError where the weights `arrays` are not near to those that a training at this site ended with.

    `state`: the folder of the site's trainings. Near: the distance is at most `floors.trained` times the norm, over the
    parameters that both have.
    """
    if floors.trained is None:
        return
    apart = [of for path in Path(state).glob(f"{name}-*.pt") if (of := _apart(path, arrays)) is not None]
    if not apart:
        raise PolicyError(
            "floors.trained", f"no training of {name} has left its state here: the site did not take part"
        )
    if min(apart) > floors.trained:
        said = f"the weights of {name} are {min(apart):.2f} of their norm away from what was trained here"
        raise PolicyError("floors.trained", f"{said}, at most {floors.trained:g} is allowed")


def _apart(path: Path, arrays: dict[str, np.ndarray]) -> float | None:
    """Return the relative distance to the parameters of a kept training; None if it is of another network."""
    kept: dict[str, Any] = (checkpoint.load(path) or {}).get("family", {})
    both = [name for name in arrays if name in kept and tuple(kept[name].shape) == arrays[name].shape]
    if sum(arrays[name].size for name in both) < sum(array.size for array in arrays.values()) / 2:
        return None
    pairs = [(arrays[name].astype(np.float64), kept[name].double().numpy()) for name in both]
    norm = sum(float((ours**2).sum()) for _, ours in pairs) ** 0.5
    return sum(float(((theirs - ours) ** 2).sum()) for theirs, ours in pairs) ** 0.5 / max(norm, 1e-12)
