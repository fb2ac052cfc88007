"""Checks of `sample.given`: its images must be the centre's to publish, and have the study's channels and size.

A synthetic set contains the given channels unchanged. The sentences go on from "sample.given".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pandas as pd

from fedsynth.params import Image
from fedsynth.sources import Source


def of_source(
    given: Source, hospitals: Collection[str], source: Source | None = None
) -> Iterator[tuple[str | None, str]]:
    """What is wrong with a source whose sites are at the centre, with the site that it is about, None for all of them.

    `source`: the hospitals' own, if its files are on this machine.
    """
    for site in given.sites():
        if site in hospitals:
            yield site, f"has the site {site!r}, a hospital of this run: its images stay there"
    if shared := given.paths() & (source.paths() if source else set()):
        said = f"has {len(shared)} files of the hospitals, {min(shared).name} among them: their images stay there"
        yield None, f"{said}; name others, or leave these out of one of both"


def of_set(manifest: pd.DataFrame, shape: tuple[int, ...], image: Image, hospitals: Collection[str]) -> Iterator[str]:
    """What is wrong with a set of images of `shape` (C, *S)."""
    usable = manifest[manifest["problem"] == ""]
    if same := sorted(set(hospitals) & set(manifest["site"])):
        yield f"has images of {same[0]!r}, a hospital of this run: they stay there"
    expected = (len(image.channels), *image.size)
    if not len(usable) or shape != expected:
        yield f"has {len(usable)} usable images of the shape {shape}; {expected} is needed, (channels, *image.size)"
    if others := sorted(set(usable["modality"]) - {"+".join(image.images)}):
        yield f"has the image channels {others[0]}, image.channels names {'+'.join(image.images)}"
