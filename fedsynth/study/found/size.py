"""The size of a study's images, and how their values are scaled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fedsynth.study.found.found import Found
from fedsynth.study.found.machine import Machine

STEP, LEAST = 8, 16  # networks halve an image three times
LONGEST = 3.0  # of one axis to another: what is longer is padded
DARK = 0.5  # share of the range of 8 bits


def size(found: Found, machine: Machine) -> tuple[list[int], str]:
    """Voxels along each axis, in the proportions of the images, as many as the machine trains in minutes; and why."""
    good = found.good
    extents = np.array([_extent(shape, spacing) for shape, spacing in
                        zip(good["shape"], good["spacing"], strict=True)])  # fmt: skip
    ratio = np.exp(np.median(np.log(extents / extents.mean(1, keepdims=True)), axis=0))
    ratio = np.clip(ratio, ratio.max() / LONGEST, None)
    dims = found.layout.axes
    wanted = ratio * (machine.voxels(dims) / float(np.prod(ratio))) ** (1 / dims)
    own = np.array(found.median_shape)
    scale = min(1.0, float((own / wanted).max()))  # not larger than the images
    chosen = [max(LEAST, STEP * round(float(n) * scale / STEP)) for n in wanted]
    return chosen, _why(found, chosen, machine, scale)


def _extent(shape: tuple[int, ...], spacing: tuple[float, ...] | None) -> list[float]:
    steps = spacing if spacing is not None and np.isfinite(spacing).all() else (1.0,) * len(shape)
    return [max(n * step, 1e-6) for n, step in zip(shape, steps, strict=True)]


def _why(found: Found, chosen: list[int], machine: Machine, scale: float) -> str:
    shapes = np.array(found.good["shape"].tolist())
    low, high = shapes.min(0), shapes.max(0)
    span = " x ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(low, high, strict=True))
    if scale < 1:
        return f"images are {span}: hardly larger"
    factor = math.prod(n / c for n, c in zip(found.median_shape, chosen, strict=True)) ** (1 / len(chosen))
    small = "; small findings may be lost" if factor > 8 and found.layout.masks else ""
    return f"images are {span}; this is what {machine} train in minutes{small}"


def scale(found: Found) -> tuple[dict[str, Any] | None, str]:
    """`image.scale`, None for the default, and why."""
    good = found.good
    if not good["bits8"].all():
        if good["bits8"].any():
            said = "files of several kinds: each image from its own darkest to its own brightest value"
            return {"percentiles": [0.5, 99.5], "of": "image"}, said
        return None, "the default: percentiles 0.5 and 99.5 of each image or volume, -1000 to 1000 HU of CT"
    bright = good["bright"] / 255
    if float(bright.quantile(0.25)) < DARK and "red" not in found.layout.channels:
        said = "exposures differ and many images are dark: each from its own darkest to its own brightest value"
        return {"percentiles": [0.5, 99.5], "of": "image"}, said
    return None, "the default for 8 bits: 0 to 255"
