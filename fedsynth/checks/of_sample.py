"""Checks of `image.derived` and `sample`: operators, the source of given images, exporters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from fedsynth.checks import of_sites
from fedsynth.checks.blocks import built, refused
from fedsynth.checks.sizes import Size, Sizes, Trial
from fedsynth.data import manifest
from fedsynth.data.dataset import ImageSet
from fedsynth.operators import Operator
from fedsynth.params import Block, Image, Params
from fedsynth.params.near import near
from fedsynth.params.problems import Problem


def problems(params: Params, sizes: Sizes, hospitals: list[str], look: bool) -> list[Problem]:
    """`look`: whether the source of given images should be on this machine."""
    found = [*_operators(params.image, sizes), *_balance(params), *_exporters(params)]
    given, image = params.sample.given, params.image
    if isinstance(given, Block):
        return [*found, *_source(params, given, hospitals, look)]
    if image.given and given is None:
        said = f"image.given names {image.given}: name a source or a set of the centre that has them, no hospital's"
        found.append(Problem("sample.given", None, said))
    if image.given and given and look and not (Path(given) / manifest.FILE).is_file():
        found.append(Problem("sample.given", given, f"holds no {manifest.FILE}; name the folder of a set, or a source"))
    return found


def _operators(image: Image, sizes: Sizes) -> Iterator[Problem]:
    for channel, derived in image.derived.items():
        key = f"image.derived.{channel}.operator"
        _, wrong = built(key, "operator", derived.operator, image.context())
        yield from wrong
        if not wrong and (error := sizes.error(key, degraded(derived.operator, image))):
            yield from refused(key, derived.operator, error)


def degraded(block: Block, image: Image) -> Trial:
    """Makes a given channel of two images, and looks at it as a study does."""

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


def _source(params: Params, block: Block, hospitals: list[str], look: bool) -> Iterator[Problem]:
    sites, wrong = of_sites.sites("sample.given", block, of_sites.context(params), look)
    yield from wrong
    for site in sites or []:
        if site in hospitals:
            said = "is a hospital of this study, whose images stay there; give the centre's images another name"
            yield Problem(of_sites.place("sample.given", block, site), site, said)


def _exporters(params: Params) -> Iterator[Problem]:
    """Each writes a set without an image: what it has against channels or size it says at once."""
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
                except Exception as error:  # a format may raise anything for what it cannot hold
                    yield from refused(key, block, error)
