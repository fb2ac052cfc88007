"""Procedural textures and shapes in 2-D and 3-D: images that are of nobody."""

from __future__ import annotations

import numpy as np

from fedsynth.data.anatomy import grid, inside, waves

TEXTURES = ("plain", "noise", "stripes", "checks", "cells", "grains")
SHAPES = ("ball", "shell", "box", "blob")


def texture(kind: str, size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """(*S) a texture of mean 0 and standard deviation 1; `plain` is 0 throughout."""
    made = {"plain": _plain, "noise": _noise, "stripes": _stripes, "checks": _checks, "cells": _cells,
            "grains": _grains}[kind](size, rng)  # fmt: skip
    spread = made.std()
    return (made - made.mean()) / spread if spread > 1e-6 else np.zeros(size)


def shape(kind: str, size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """(*S) in [0, 1]: the part of each pixel that lies in a shape, which is whole and inside the image."""
    column, d = (-1, *[1] * len(size)), len(size)
    radius = rng.uniform(0.18, 0.42)
    offset = grid(size) - rng.uniform(radius - 0.95, 0.95 - radius, d).reshape(column)
    offset /= rng.uniform(0.75, 1.0, d).reshape(column)
    far = np.linalg.norm(offset, axis=0)
    if kind == "box":
        return inside(radius * 0.9 - np.abs(offset).max(0))
    if kind == "blob":
        return inside(radius * (0.85 + 0.15 * waves(offset, radius, rng).clip(-1.5, 1.5)) - far)
    return inside(radius - far) - (inside(0.55 * radius - far) if kind == "shell" else 0)


def _plain(size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return np.zeros(size)


def _noise(size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise whose power falls with the frequency to the power of 0 (white) to 4 (smooth)."""
    far = np.sqrt(sum(f**2 for f in np.meshgrid(*map(np.fft.fftfreq, size), indexing="ij")))
    fall = np.maximum(far, 1 / max(size)) ** -(rng.uniform(0, 4) / 2)
    return np.fft.ifftn(np.fft.fftn(rng.normal(size=size)) * fall).real


def _wave(size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """(*S) radians of a plane wave of 2.5 to 16 pixels."""
    way = rng.normal(size=len(size))
    way *= 2 * np.pi / np.exp(rng.uniform(np.log(2.5), np.log(16))) / np.linalg.norm(way)
    return np.tensordot(way, np.indices(size), 1) + rng.uniform(0, 2 * np.pi)


def _stripes(size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return np.sin(_wave(size, rng))


def _checks(size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return np.sin(_wave(size, rng)) * np.sin(_wave(size, rng))


def _cells(size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """The distance to the nearest of random points."""
    from scipy.spatial import cKDTree

    points = rng.uniform(-1, 1, (int(rng.integers(8, 60)), len(size)))
    return cKDTree(points).query(np.moveaxis(grid(size), 0, -1))[0]


def _grains(size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Noise of one scale, cut at a level: flat grains with edges."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(rng.normal(size=size), rng.uniform(0.7, 3.0))
    return (smooth > np.quantile(smooth, rng.uniform(0.3, 0.7))).astype(float)
