"""Stage `sample`: draws a synthetic set from a trained model and validates it like real data."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedsynth.data import manifest as table
from fedsynth.data import outputs
from fedsynth.data.dataset import ImageSet, concatenate, synthetic
from fedsynth.errors import UserError
from fedsynth.params import Block, Image, Params

if TYPE_CHECKING:
    from fedsynth.families import Family

TRIES = 20  # an image whose class has a lesion but whose mask is empty is drawn again, so often at most


class SampleError(UserError):
    """No usable synthetic set could be drawn; the message says of which model and why."""


def sample(params: Params, root: Path, name: str) -> ImageSet:
    """data/synthetic/<name> from models/<name>. Raises SampleError where the set fails the expectations."""
    from fedsynth.training import weights
    from fedsynth.validation import expectations

    source, folder = root / "models" / name, root / "data" / "synthetic" / name
    model = outputs.read(source / "model.json", f"train@{name}")
    family = weights.build_family(model, weights.load(source / "weights.safetensors"))
    given = given_set(params, model["sites"], root / ".work" / "sample" / "given" / name)
    drawn = draw(family, params, name, model["weights_sha256"][:12], given)
    shutil.rmtree(folder, ignore_errors=True)
    table.write(folder, drawn.manifest, drawn.images)
    verdict = expectations.validate(folder, params, name, root / ".work" / "sample" / name)
    if not verdict.passed:
        raise SampleError(
            f"the synthetic set of {name} fails what real data must pass; train it longer or look at its"
            f" losses\n{verdict.message()}"
        )
    print(
        f"sample@{name}: {len(drawn)} images,"
        f" {', '.join(f'{n} {label}' for label, n in drawn.manifest['label'].value_counts().items())}",
        flush=True,
    )
    return drawn


def draw(family: Family, params: Params, name: str, version: str, given: ImageSet | None = None) -> ImageSet:
    """`sample.images` images by the seed. Masks are cut at 0; one of a class without lesion is emptied; a missing
    lesion is drawn again.

    `given`: as `given_set` has it; a synthetic image has the given channels, and those aside, of one of its images of
    the same label. Of a family without chance each is taken once at most: a second time would be the same image.
    """
    import torch

    from fedsynth.training import sampling

    image = params.image
    generator = torch.Generator().manual_seed(params.seed)
    places = labels(params)
    if given is not None and family.deterministic:
        places = places[first(places, given.labels(image))]
        print(f"{name} makes one image of each that is given: {len(places)} of {params.sample.images}", flush=True)
    known = None if given is None else of_labels(image, given, places)
    planes = None if known is None else torch.from_numpy(known.channels(image, image.given))
    images = np.zeros((len(places), len(image.channels), *image.size), np.float32)
    todo = np.arange(len(places))
    for _ in range(TRIES):
        for part in np.array_split(todo, -(-len(todo) // params.sample.batch)):
            y, g = torch.from_numpy(places[part]), None if planes is None else planes[part]
            drawn = sampling.draw(family, image, y, g, generator).numpy()
            images[part] = assemble(image, drawn, None if known is None else known.images[part])
        todo = clean(image, images, places, todo)
        if not len(todo):
            return synthetic(params, images, places, name, version)
    short = sorted({image.labels[k] for k in places[todo]})
    raise SampleError(
        f"{name} draws no lesion mask for {', '.join(short)} in {TRIES} tries ({len(todo)} images left); train it"
        " longer"
    )


def labels(params: Params) -> np.ndarray:
    """(N,) places of the labels, in the shares of `sample.balance`; every class in turn, so that any prefix of the set
    is balanced too.
    """
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


def assemble(image: Image, generated: np.ndarray, known: np.ndarray | None) -> np.ndarray:
    """(B, all channels, *S) in the order of params.yaml, masks -1 or 1: what was generated, the rest of `known` (B, all
    channels, *S).
    """
    out = (
        np.zeros((len(generated), len(image.channels), *image.size), np.float32)
        if known is None
        else np.array(known, np.float32)
    )
    out[:, image.index(image.generated)] = generated
    masks = image.index(image.masks)
    out[:, masks] = np.where(out[:, masks] > 0, 1, -1)
    return out


def clean(image: Image, images: np.ndarray, places: np.ndarray, todo: np.ndarray) -> np.ndarray:
    """Empty generated masks of classes without lesion, in place; return which images must be drawn again for want of a
    mask.
    """
    masks = image.index([name for name in image.masks if name in image.generated])
    if not masks or not image.empty_labels:
        return todo[:0]
    without = np.isin(places, [image.labels.index(n) for n in image.empty_labels])
    images[np.ix_(without.nonzero()[0], np.array(masks))] = -1
    missing = ~(images[:, masks] > 0).any(axis=tuple(range(1, images.ndim)))
    return todo[(missing & ~without)[todo]]


def given_set(params: Params, hospitals: Iterable[str], folder: Path) -> ImageSet | None:
    """The images whose channels are given, None where none are: those of the source that `sample.given` names, ingested
    into `folder`, or of the folder that it names. They are the centre's to show: a synthetic set has their channels as
    they are.

    Raises SampleError where nothing is named, where a site of the source has a hospital's name, or where the channels
    are others.
    """
    image, named = params.image, params.sample.given
    if not image.given:
        return None
    if named is None:
        raise SampleError(
            f"channels {image.given} are given: name in sample.given a source or a set that has them (never a"
            " hospital's)"
        )
    images = ImageSet.load(Path(named)) if isinstance(named, str) else _ingested(params, named, set(hospitals), folder)
    usable = images.where(images.manifest["problem"] == "")
    if same := set(hospitals) & set(images.manifest["site"]):
        raise SampleError(f"sample.given has images of {sorted(same)[0]!r}, a hospital of this run: they stay there")
    expected = (len(image.channels), *image.size)
    if not len(usable) or usable.images.shape[1:] != expected:
        raise SampleError(
            f"sample.given: {len(usable)} usable images of the shape {usable.images.shape[1:]}; {expected} is asked for"
        )
    if others := set(usable.manifest["modality"]) - {"+".join(image.images)}:
        raise SampleError(
            f"sample.given has the image channels {sorted(others)[0]}, image.channels names {'+'.join(image.images)}"
        )
    return usable


def _ingested(params: Params, block: Block, hospitals: set[str], folder: Path) -> ImageSet:
    from fedsynth.stages.ingest import ingest_site

    source = block.build(image=params.image.sourced, seed=params.seed)
    if same := hospitals & set(source.sites()):
        raise SampleError(
            f"sample.given has the site {sorted(same)[0]!r}, a hospital of this run: its images stay there"
        )
    for site in source.sites():
        ingest_site(params, source, site, folder)
    return concatenate([ImageSet.load(folder / site) for site in source.sites()])


def first(places: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(N,) bool: the first of each label in `places` (N,), as many as are in `there` (M,), but one at least."""
    kept = np.zeros(len(places), dtype=bool)
    for k in np.unique(places):
        kept[np.flatnonzero(places == k)[: max(1, (there == k).sum())]] = True
    return kept


def of_labels(image: Image, given: ImageSet, places: np.ndarray) -> ImageSet:
    """For each of the labels `places` (N,) an image of that label, each in turn. Raises SampleError for a label that
    has none.
    """
    labels, chosen = given.labels(image), np.zeros(len(places), int)
    for k in np.unique(places):
        there = np.flatnonzero(labels == k)
        if not len(there):
            raise SampleError(
                f"no image that sample.given names is {image.labels[k]}: give some, or no share in sample.balance"
            )
        chosen[places == k] = np.resize(there, (places == k).sum())
    return ImageSet(given.manifest.iloc[chosen].reset_index(drop=True), given.images[chosen])
