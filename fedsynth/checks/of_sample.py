"""Checks of `image.derived` and `sample`: operators, the source of given images, exporters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from fedsynth.checks import of_sites
from fedsynth.checks.blocks import built, refused
from fedsynth.checks.of_sites import Hospitals
from fedsynth.checks.sizes import Size, Sizes, Trial
from fedsynth.data import manifest
from fedsynth.data.dataset import ImageSet
from fedsynth.operators import Operator
from fedsynth.params import Block, Image, Params
from fedsynth.params.near import near
from fedsynth.params.problems import Problem
from fedsynth.validation.given import of_set


def problems(params: Params, sizes: Sizes, hospitals: Hospitals, look: bool) -> list[Problem]:
    """Return the problems; `look`: whether the images of `sample.given` should be on this machine."""
    found = [*_operators(params.image, sizes), *_balance(params), *_exporters(params)]
    given, image = params.sample.given, params.image
    if isinstance(given, Block):
        found += of_sites.at_centre("sample.given", given, params, hospitals, look)
    elif image.given and given is None:
        said = f"image.given names {image.given}: name a source or a set of the centre that has them, no hospital's"
        found.append(Problem("sample.given", None, said))
    elif given is not None and look:
        found += [Problem("sample.given", given, said) for said in _set(Path(given), image, hospitals.sites or [])]
    return found


def _operators(image: Image, sizes: Sizes) -> Iterator[Problem]:
    for channel, derived in image.derived.items():
        key = f"image.derived.{channel}.operator"
        _, wrong = built(key, "operator", derived.operator, image.context())
        yield from wrong
        if not wrong and (error := sizes.error(key, degraded(derived.operator, image))):
            yield from refused(key, derived.operator, error)


def degraded(block: Block, image: Image) -> Trial:
    """Return a trial that degrades two images, and estimates them again."""

    def trial(size: Size) -> None:
        operator: Operator = block.build(**image.context() | {"size": size})
        given = operator.degrade(torch.zeros(2, *size), torch.Generator().manual_seed(0))
        operator.consistent(operator.estimate(given), given)

    return trial


def _balance(params: Params) -> Iterator[Problem]:
    balance, labels = params.sample.balance, params.image.labels
    if isinstance(balance, str):
        return
    for label, share in balance.items():
        if label not in labels:
            said = f"image.labels has no such label; it has {', '.join(labels)}{near(label, labels)}"
            yield Problem(f"sample.balance.{label}", share, said)
    if not any(balance.values()):
        yield Problem("sample.balance", balance, "gives no label a share, so that there is nothing to draw")


def _set(folder: Path, image: Image, hospitals: list[str]) -> Iterator[str]:
    """Yield what is wrong with a folder as `sample.given`."""
    if not (folder / manifest.FILE).is_file():
        yield f"holds no {manifest.FILE}; name the folder of a set, or a source"
        return
    try:
        shape = np.load(folder / manifest.ARRAY, mmap_mode="r").shape[1:]
        yield from of_set(manifest.read(folder), shape, image, hospitals)
    except Exception as error:  # reading a user's files may raise any exception
        yield str(error)


def _exporters(params: Params) -> Iterator[Problem]:
    """Yield the problems of exporters with the channels and size, found by exporting a set without images."""
    image = params.image
    nothing = ImageSet(manifest.frame([]), np.zeros((0, len(image.channels), *image.size), np.float32))
    for name, block in params.sample.exporters.items():
        key = f"sample.exporters.{name}"
        exporter, wrong = built(key, "exporter", block, {})
        yield from wrong
        if exporter is not None:
            with TemporaryDirectory() as folder:
                try:
                    exporter.write(nothing, image, Path(folder) / "set")
                except Exception as error:  # libraries of formats raise any exception
                    yield from refused(key, block, error)
