"""Stage `sample`: draws a synthetic set from a trained model and validates it like real data."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.data import manifest as table
from fedsynth.data import mends as mended
from fedsynth.data import outputs
from fedsynth.data.dataset import ImageSet, concatenate, synthetic, synthetic_row
from fedsynth.data.stored import Writer, opened
from fedsynth.errors import UserError
from fedsynth.params import Block, Image, Params, names

if TYPE_CHECKING:
    from fedsynth.families import Family

TRIES = 20  # maximum number of draws for an image whose class has a lesion and whose mask is empty


class SampleError(UserError):
    """No usable synthetic set could be drawn; the message names the model and the reason."""


def sample(params: Params, root: Path, name: str) -> ImageSet:
    """Draw data/synthetic/<name> from models/<name>, count what is mended, and validate it. Images are written as they
    are drawn: memory does not grow with the set.

    Raises SampleError if the set fails the expectations.
    """
    from fedsynth.training import weights
    from fedsynth.validation import expectations

    source, folder = root / "models" / name, root / "data" / "synthetic" / name
    model = outputs.read(source / "model.json", f"train@{name}")
    family = weights.build_family(model, weights.load(source / "weights.safetensors"))
    given = given_set(params, model["sites"], root / ".work" / "sample" / "given" / name)
    shutil.rmtree(folder, ignore_errors=True)
    mends = Counter[str]()
    own = params.seeded(params.models[name].seed)
    drawn = write(folder, family, own, name, model["weights_sha256"][:12], given, mends)
    if not mended.lacks(params.image):
        outputs.write(folder / mended.FILE, mended.counted(params.image, drawn.manifest, mends))
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


def draw(
    family: Family,
    params: Params,
    name: str,
    version: str,
    given: ImageSet | None = None,
    mends: Counter[str] | None = None,
) -> ImageSet:
    """Draw `sample.images` images with the study's seed, into memory.

    Masks are thresholded at 0; masks of classes without a lesion are emptied; images of the other classes with an empty
    mask are drawn again, at most TRIES times in all; `mends` counts both. `version`: written to the manifest.

    `given`: from `given_set`; each synthetic image takes the given channels, and those that are set aside, from an
    image of the same label. A deterministic family uses each of these at most once, because it would generate the same
    image again. Raises SampleError if masks are still empty after TRIES.
    """
    places, chosen = arranged(family, params, name, given)
    images = draw_images(family, params, name, places, given, mends, chosen)
    return synthetic(params, images, places, name, version)


def write(
    folder: Path,
    family: Family,
    params: Params,
    name: str,
    version: str,
    given: ImageSet | None = None,
    mends: Counter[str] | None = None,
) -> ImageSet:
    """Draw into a folder what `draw` draws into memory: each batch is written, and what is drawn again written over."""
    image, (places, chosen) = params.image, arranged(family, params, name, given)
    rows: list[dict[str, Any]] = [{}] * len(places)
    with Writer(folder / table.ARRAY, (len(image.channels), *image.size)) as written:
        for part, images in drawn_parts(family, params, name, places, given, chosen, mends):
            for place, array in zip(part.tolist(), images, strict=True):
                written.put(place, array)
                rows[place] = synthetic_row(params, place, places[place], array, name, version)
    manifest = table.frame(rows)
    table.write_rows(folder, manifest)
    return ImageSet(manifest, opened(folder / table.ARRAY, manifest["index"].to_numpy(dtype=int)))


def arranged(family: Family, params: Params, name: str, given: ImageSet | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the labels (N,) of a set, and of each image the place (N,) of its given channels, if any are given."""
    places, image = labels(params), params.image
    if given is None:
        return places, None
    if family.deterministic:
        places = places[first(places, given.labels(image))]
        print(f"{name} makes one image of each that is given: {len(places)} of {params.sample.images}", flush=True)
    return places, turns(image, given, places)


def draw_images(
    family: Family,
    params: Params,
    name: str,
    places: np.ndarray,
    known: ImageSet | None,
    mends: Counter[str] | None = None,
    turns: np.ndarray | None = None,
) -> np.ndarray:
    """Return the images (N, all channels, *S) of a set with the labels `places` (N,). Raises SampleError as `draw`.

    `known`, `turns`, `mends`: see `drawn_parts`.
    """
    images = np.zeros((len(places), len(params.image.channels), *params.image.size), np.float32)
    for part, drawn in drawn_parts(family, params, name, places, known, turns, mends):
        images[part] = drawn
    return images


def drawn_parts(
    family: Family,
    params: Params,
    name: str,
    places: np.ndarray,
    known: ImageSet | None = None,
    turns: np.ndarray | None = None,
    mends: Counter[str] | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the images (B, all channels, *S) of a set with the labels `places` (N,), batch by batch with their places
    (B,) in it. An image that is drawn again comes again, in the place of the one before.

    `known`: images with the given channels, None if none are given; `turns` (N,): the place in them of that of each
    image, default: its own. `mends` counts, if it is given, images that were drawn again (each time) and those whose
    masks were emptied. Raises SampleError, after the last batch, as `draw`.
    """
    image, todo = params.image, np.arange(len(places))
    for attempt in range(TRIES):
        missing = [todo[:0]]
        for number, part in enumerate(batches(params, todo)):
            some = None if known is None else known.at(part if turns is None else turns[part])
            drawn = draw_batch(family, params, places[part], some, attempt, number)
            if mends is not None and not attempt:
                mends["masks emptied"] += int(_to_empty(image, drawn, places[part]).sum())
            missing.append(part[clean(image, drawn, places[part], np.arange(len(part)))])
            yield part, drawn
        todo = np.concatenate(missing)
        if mends is not None:
            mends["drawn again"] += len(todo)
        if not len(todo):
            return
    short = sorted({image.labels[k] for k in places[todo]})
    raise SampleError(
        f"{name} draws no lesion mask for {', '.join(short)} in {TRIES} tries ({len(todo)} images left); train it"
        " longer"
    )


def batches(params: Params, todo: np.ndarray) -> list[np.ndarray]:
    """Return the places `todo` of a set in the batches in which their images are drawn."""
    return np.array_split(todo, -(-len(todo) // params.sample.batch))


def draw_batch(
    family: Family, params: Params, places: np.ndarray, known: ImageSet | None, attempt: int, number: int
) -> np.ndarray:
    """Return one batch of images (B, all channels, *S) of the labels `places` (B,).

    Its random numbers follow from the study's seed, the attempt and the batch's number alone, so that a hospital can
    draw one batch of a set again. `known`: the images with the given channels, None if none are given.
    """
    import torch

    from fedsynth.training import sampling

    seed = hashlib.sha256(f"{params.seed}/{attempt}/{number}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(seed[:7], "big"))
    given = None if known is None else torch.from_numpy(known.channels(params.image, params.image.given))
    drawn = sampling.draw(family, params.image, torch.from_numpy(places), given, generator).numpy()
    return assemble(params.image, drawn, None if known is None else np.asarray(known.images))


def labels(params: Params) -> np.ndarray:
    """Return label indices (N,) in the proportions of `sample.balance`.

    The classes are interleaved, so that any prefix of the set has these proportions, too. Raises SampleError for a
    label that image.labels does not have.
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
    """Return images (B, all channels, *S) in the order of params.yaml, masks -1 or 1.

    `generated`: (B, generated channels, *S); `known`: (B, all channels, *S) with the other channels, None: they are 0.
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
    """Empty the generated masks of classes without a lesion, in place.

    Returns the indices of `todo` whose images have no mask and must be drawn again.
    """
    masks = image.index([name for name in image.masks if name in image.generated])
    if not masks or not image.empty_labels:
        return todo[:0]
    without = np.isin(places, [image.labels.index(n) for n in image.empty_labels])
    images[np.ix_(without.nonzero()[0], np.array(masks))] = -1
    missing = ~(images[:, masks] > 0).any(axis=tuple(range(1, images.ndim)))
    return todo[(missing & ~without)[todo]]


def _to_empty(image: Image, images: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return (N,) bool: the images of classes without a lesion in whose generated masks something is marked."""
    masks = image.index([name for name in image.masks if name in image.generated])
    marked = (images[:, masks] > 0).any(axis=tuple(range(1, images.ndim)))
    return marked & np.isin(places, [image.labels.index(n) for n in image.empty_labels])


def given_set(params: Params, hospitals: Iterable[str], folder: Path) -> ImageSet | None:
    """Return the usable images of `sample.given`, which provide the given channels; None if no channels are given.

    A source is ingested into `folder`, a folder is read. The images must be the centre's to publish, because a
    synthetic set contains the given channels unchanged. `hospitals`: names of the sites of the run.

    Raises SampleError if `sample.given` is not set, if a site has the name of a hospital, or if the channels differ.
    """
    from fedsynth.validation.given import of_set

    image, named = params.image, params.sample.given
    if not image.given:
        return None
    if named is None:
        raise SampleError(
            f"channels {image.given} are given: name in sample.given a source or a set that has them (never a"
            " hospital's)"
        )
    images = ImageSet.load(Path(named)) if isinstance(named, str) else _ingested(params, named, set(hospitals), folder)
    for wrong in of_set(images.manifest, images.images.shape[1:], image, set(hospitals)):
        raise SampleError(f"sample.given {wrong}")
    return images.where(images.manifest["problem"] == "")


def _ingested(params: Params, block: Block, hospitals: set[str], folder: Path) -> ImageSet:
    from fedsynth.stages.ingest import ingest_site
    from fedsynth.validation.given import of_source

    source = block.build(image=params.image.sourced, seed=params.seed)
    for _, wrong in of_source(source, hospitals):
        raise SampleError(f"sample.given {wrong}")
    sites = names.keys(source.sites())
    for site in sites:
        ingest_site(params, source, site, folder)
    return concatenate([ImageSet.load(folder / key) for key in sites.values()])


def first(places: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return (N,) bool: for each label in `places` (N,), the first as many as `there` (M,) has of it, at least one."""
    kept = np.zeros(len(places), dtype=bool)
    for k in np.unique(places):
        kept[np.flatnonzero(places == k)[: max(1, (there == k).sum())]] = True
    return kept


def turns(image: Image, given: ImageSet, places: np.ndarray) -> np.ndarray:
    """Return the place (N,) of a given image for each of the labels `places` (N,), taking those of a label in turn.

    Raises SampleError for a label without images.
    """
    labels, chosen = given.labels(image), np.zeros(len(places), int)
    for k in np.unique(places):
        there = np.flatnonzero(labels == k)
        if not len(there):
            raise SampleError(
                f"no image that sample.given names is {image.labels[k]}: give some, or no share in sample.balance"
            )
        chosen[places == k] = np.resize(there, (places == k).sum())
    return chosen
