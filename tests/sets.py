"""Small sets made by hand, so that a test of one part needs no source, no ingest and no params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsynth.data import manifest, outputs
from fedsynth.data.dataset import ImageSet
from fedsynth.hospital import secret
from fedsynth.params import Image, Params
from fedsynth.settings import Settings

TINY: dict[str, Any] = {
    "source": {
        "class_path": "fedsynth.sources.phantom.Phantom",
        "args": {"sites": {"north": {"images": 24}, "east": {"images": 24}}},
    },
    "image": {
        "size": [16, 16],
        "channels": {"t1": "image", "t2": "image", "lesion": "mask"},
        "labels": ["none", "infiltrating", "extra_axial"],
        "empty_labels": ["none"],
    },
    "expectations": {"min_images": {"train": 2, "test": 1}},
    "models": {
        "vae": {"family": {"class_path": "fedsynth.families.vae.VAE"}, "training": {"rounds": 1, "batch": 8}},
    },
    "sample": {"images": 12},
    "score": {"uses": {"classification": {"class_path": "fedsynth.uses.classification.Classification"}}},
}
# in which a class's subjects come, so that few images already fill every split
TURNS = ("train", "test", "val", "train", "train")


def tiny_params(**overrides: Any) -> Params:
    """Small params; an override that is a dict changes the keys that it names, `tiny_params(image={"size": [8, 8,
    8]})`.

    `channels`, `models` and `min_images` are given whole: their keys are names, and a test may want fewer.
    """
    return Params.model_validate(_merge(TINY, overrides))


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    whole = ("channels", "models", "min_images", "args", "uses", "exporters")
    deep = {
        k: _merge(base[k], v)
        for k, v in changes.items()
        if isinstance(v, dict) and isinstance(base.get(k), dict) and k not in whole
    }
    return base | changes | deep


def make_set(folder: Path, params: Params, site: str = "north", n: int = 60, seed: int = 0, **changes: Any) -> ImageSet:
    """Write n random but valid images with lesions, classes in turn, two images of each subject, and return the set as
    read back.

    2-D or 3-D by `params.image.size`; every class is in every split from 6 images of a class on. The place of the
    lesion is random, its brightness tells the class. `changes` are columns: `label="none"` for every row, or a list
    with a value for each.
    """
    image, rng = params.image, np.random.default_rng([seed, *site.encode()])
    names = _subjects(params, n)
    arrays = np.zeros((n, len(image.channels), *image.size), np.float32)
    for i in range(n):
        arrays[i] = _draw(image, i % len(image.labels), rng)
    rows = [row(params, site, i, array, names[i]) for i, array in enumerate(arrays)]
    table = manifest.frame(rows).assign(**changes)
    manifest.write(folder, table, arrays)
    return ImageSet(manifest.read(folder), arrays)


def row(params: Params, site: str, i: int, array: np.ndarray, whose: tuple[str, str]) -> dict[str, Any]:
    """The manifest's row of a stored array (C, *S) of a real image; `whose` is (subject, split)."""
    image, (subject, split) = params.image, whose
    return manifest.row(
        len(image.images),
        array,
        image_id=f"{site}-{i:05d}",
        site=site,
        subject=f"{site}-{subject}",
        label=image.labels[i % len(image.labels)],
        modality="+".join(image.images),
        split=split,
        index=i,
        origin="real",
        spacing_mm="x".join("1" for _ in image.size),
        file=f"images/scan_{i:05d}.png",
    )


def rewrite(folder: Path, where: int | str, **cells: Any) -> None:
    """Change cells of one row of a written manifest, by its place or its image_id."""
    table = manifest.read(folder)
    place = where if isinstance(where, int) else int(table.index[table["image_id"] == where][0])
    for column, value in cells.items():
        table.loc[place, column] = value
    manifest.write(folder, table, np.load(folder / manifest.ARRAY))


def passed(state: Path, real: ImageSet, simulated: bool = False) -> str:
    """The digest with which a set has passed validation at the site whose state is in this folder."""
    with pytest.MonkeyPatch.context() as patch:
        if simulated:
            patch.setenv(secret.SIMULATED, "1")
        return secret.keyed(state, manifest.digest(real.manifest))


def validated(folder: Path, params: Params, images: dict[str, int], mode: str = "simulator") -> Settings:
    """The settings of a project in which sites have so many images each, which have passed validation."""
    settings = Settings(mode, folder, folder / "data" / "sites", folder / "state", 120, False)
    real = {name: make_set(settings.data / name, params, name, n=n) for name, n in images.items()}
    sites = {
        name: {"digest": passed(settings.state / name, of, simulated=True), "images": 60} for name, of in real.items()
    }
    outputs.write(folder / "reports" / "validation.json", {"used": sorted(sites), "sites": sites})
    return settings


def _subjects(params: Params, n: int) -> list[tuple[str, str]]:
    """(subject, split) of each image: the k-th and k+1-th image of a class are one subject's."""
    classes = len(params.image.labels)
    pairs = [(i % classes, i // classes // 2) for i in range(n)]
    return [(f"subject-{label}-{pair:03d}", TURNS[pair % len(TURNS)]) for label, pair in pairs]


def _draw(image: Image, label: int, rng: np.random.Generator) -> np.ndarray:
    """(C, *S): a bright body on black with noise; a ball in it where the label has a lesion, the brighter the later the
    label.
    """
    places = np.stack(np.meshgrid(*[np.linspace(-1, 1, s) for s in image.size], indexing="ij"))
    radius = np.sqrt(((places / rng.uniform(0.75, 0.95, (len(image.size),) + (1,) * len(image.size))) ** 2).sum(0))
    centre = rng.uniform(-0.35, 0.35, len(image.size)).reshape(-1, *[1] * len(image.size))
    ball = np.sqrt(((places - centre) ** 2).sum(0)) < rng.uniform(0.25, 0.4)
    lesion = ball if image.labels[label] not in image.empty_labels else np.zeros_like(ball)
    planes = []
    for channel, kind in enumerate(image.channels.values()):
        bright = -0.3 + 0.9 * (label + 1) / len(image.labels) - 0.1 * channel
        scan = np.where(lesion, bright, np.where(radius < 1, -0.2, -0.9)) + rng.normal(0, 0.04, image.size)
        planes.append(np.clip(scan, -1, 1) if kind == "image" else np.where(lesion, 1.0, -1.0))
    return np.stack(planes)


def spoilt(images: ImageSet, *splits: str) -> ImageSet:
    """The same set with NaN in every image of these splits, so that whoever looks at one shows it."""
    arrays = np.array(images.images)
    arrays[images.manifest["split"].isin(splits).to_numpy()] = np.nan
    return ImageSet(images.manifest, arrays)
