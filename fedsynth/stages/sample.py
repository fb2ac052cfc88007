"""Draw a synthetic set from a trained model: images and manifest, checked like real data before anyone gets it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedsynth import manifest as table
from fedsynth import outputs
from fedsynth.dataset import ImageSet, synthetic
from fedsynth.errors import UserError
from fedsynth.params import Image, Params

if TYPE_CHECKING:
    from fedsynth.families import Family

TRIES = 20  # an image whose class has a lesion but whose mask is empty is drawn again, so often at most


class SampleError(UserError):
    """No usable synthetic set could be drawn; the message says of which model and why."""


def sample(params: Params, root: Path, name: str) -> ImageSet:
    """data/synthetic/<name> from models/<name>. Raises SampleError where the set fails the expectations."""
    from fedsynth import expectations, weights

    source, folder = root / "models" / name, root / "data" / "synthetic" / name
    model = outputs.read(source / "model.json", f"train@{name}")
    family = weights.build_family(model, weights.load(source / "weights.safetensors"))
    drawn = draw(family, params, name, model["weights_sha256"][:12])
    shutil.rmtree(folder, ignore_errors=True)
    table.write(folder, drawn.manifest, drawn.images)
    verdict = expectations.validate(folder, params, name, root / ".work" / "sample" / name)
    if not verdict.passed:
        raise SampleError(
            f"the synthetic set of {name} fails what real data must pass; train it longer or look at its losses\n{verdict.message()}"
        )
    print(
        f"sample@{name}: {len(drawn)} images, {', '.join(f'{n} {label}' for label, n in drawn.manifest['label'].value_counts().items())}",
        flush=True,
    )
    return drawn


def draw(family: Family, params: Params, name: str, version: str) -> ImageSet:
    """`sample.images` images by the seed. Masks are cut at 0; one of a class without lesion is emptied; a missing lesion is drawn again."""
    import torch

    image = params.image
    generator = torch.Generator().manual_seed(params.seed)
    places = labels(params)
    given = _given(params, len(places))
    images = np.zeros((len(places), len(image.channels), *image.size), np.float32)
    todo = np.arange(len(places))
    for _ in range(TRIES):
        for part in np.array_split(todo, -(-len(todo) // params.sample.batch)):
            y = torch.from_numpy(places[part])
            g = None if given is None else torch.from_numpy(given[part])
            with torch.no_grad():
                images[part] = assemble(
                    image, family.sample(y, g, generator).float().clamp(-1, 1).numpy(), None if given is None else given[part]
                )
        todo = clean(image, images, places, todo)
        if not len(todo):
            return synthetic(params, images, places, name, version)
    short = sorted({image.labels[k] for k in places[todo]})
    raise SampleError(f"{name} draws no lesion mask for {', '.join(short)} in {TRIES} tries ({len(todo)} images left); train it longer")


def labels(params: Params) -> np.ndarray:
    """(N,) places of the labels, in the shares of `sample.balance`; every class in turn, so that any prefix of the set is balanced too."""
    names = params.image.labels
    shares = dict.fromkeys(names, 1.0) if params.sample.balance == "uniform" else params.sample.balance
    if unknown := set(shares) - set(names):
        raise SampleError(f"sample.balance names {sorted(unknown)}, which image.labels does not have")
    weight = np.array([shares.get(n, 0.0) for n in names])
    due, out = np.zeros(len(names)), []
    for _ in range(params.sample.images):
        due += weight / weight.sum()
        out.append(int(due.argmax()))
        due[out[-1]] -= 1
    return np.array(out, dtype=np.int64)


def assemble(image: Image, generated: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    """(B, all channels, *S) in the order of params.yaml, masks -1 or 1."""
    out = np.zeros((len(generated), len(image.channels), *image.size), np.float32)
    out[:, image.index(image.generated)] = generated
    if given is not None:
        out[:, image.index(image.given)] = given
    masks = image.index(image.masks)
    out[:, masks] = np.where(out[:, masks] > 0, 1, -1)
    return out


def clean(image: Image, images: np.ndarray, places: np.ndarray, todo: np.ndarray) -> np.ndarray:
    """Empty the masks of classes without lesion, in place; return which images must be drawn again for want of a mask."""
    if not image.masks or not image.empty_labels:
        return todo[:0]
    masks = image.index(image.masks)
    without = np.isin(places, [image.labels.index(n) for n in image.empty_labels])
    images[np.ix_(without.nonzero()[0], np.array(masks))] = -1
    missing = ~(images[:, masks] > 0).any(axis=tuple(range(1, images.ndim)))
    return todo[(missing & ~without)[todo]]


def _given(params: Params, n: int) -> np.ndarray | None:
    """(N, G, *S) given channels from the set that `sample.given` names, repeated where it is smaller."""
    if not params.image.given:
        return None
    if params.sample.given is None:
        raise SampleError(
            f"channels {params.image.given} are given: name in sample.given a set whose images have them (never a hospital's)"
        )
    channels = ImageSet.load(Path(params.sample.given)).channels(params.image, params.image.given)
    return channels[np.arange(n) % len(channels)]
