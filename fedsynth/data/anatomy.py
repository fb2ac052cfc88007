"""Synthetic head anatomy with lesions as functions of spatial coordinates, in 2-D and 3-D, for the phantom source."""

from __future__ import annotations

from itertools import combinations

import numpy as np

# Signal of each tissue on (t1, t2), air 0 to full scale 1.
SCALP, BONE, CSF, GRAY, WHITE = (0.58, 0.42), (0.07, 0.05), (0.14, 0.92), (0.46, 0.58), (0.68, 0.40)
CORE, OEDEMA, EXTRA_AXIAL = (0.22, 0.88), (0.54, 0.70), (0.98, 0.54)


def grid(size: tuple[int, ...]) -> np.ndarray:
    """(d, *S): the centre of each voxel in [-1, 1]^d; the last two axes run front to back and left to right."""
    return np.stack(np.meshgrid(*[(np.arange(n) + 0.5) * 2 / n - 1 for n in size], indexing="ij"))


def waves(points: np.ndarray, length: float, rng: np.random.Generator, height: float = 0.0, n: int = 6) -> np.ndarray:
    """(*S) smooth random field of mean 0 and variance 1: `n` plane waves of about `length`, the same field at every
    resolution.

    `height` moves the cut through it, in the units of the points.
    """
    k = rng.normal(size=(n, len(points)))
    k *= 2 * np.pi / length * rng.uniform(0.7, 1.3, (n, 1)) / np.linalg.norm(k, axis=1, keepdims=True)
    phase = rng.uniform(0, 2 * np.pi, n) + 2 * np.pi * height / length * rng.uniform(-1, 1, n)
    found = np.zeros(points.shape[1:])
    for wave, shift in zip(np.tensordot(k, points, 1), phase, strict=True):  # one by one: arrays that fit into a cache
        np.add(wave, shift, out=wave)
        found += np.cos(wave, out=wave)
    return np.sqrt(2 / n) * found


def inside(depth: np.ndarray) -> np.ndarray:
    """The part of each voxel of a cut that lies inside a surface `depth` (in the points' units) away: no jagged edges
    at 32 pixels.
    """
    return np.clip(0.5 + depth * float(np.mean(depth.shape)) / 2, 0, 1)


def paint(tissue: np.ndarray, where: np.ndarray, signal: tuple[float, float]) -> None:
    for plane, value in zip(tissue, signal, strict=True):
        np.add(plane, where * (value - plane), out=plane)


def draw(kind: str, size: tuple[int, ...], body: np.random.Generator, cut: np.random.Generator,
         conspicuity: float = 1.0) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Tissue (2, *S) in [0, 1] without a scanner's faults, and the lesion's mask (*S) bool.

    `body` draws what belongs to the subject, `cut` what differs between its images. `conspicuity`: how far the lesion's
    signal stands out from the tissue that it replaces, from 0 (not at all) to 1.
    """
    points, d, column = grid(size), len(size), (-1, *[1] * len(size))
    height = cut.uniform(-0.1, 0.1)
    # half, of the skull's inside
    axes = np.array([*[0.76] * (d - 2), 0.77, 0.64]) * body.uniform(0.95, 1.05, d) * cut.uniform(0.96, 1.0)
    head = np.tensordot(
        _rotation(d, body.normal(0, 0.12, d * (d - 1) // 2)), points - cut.normal(0, 0.02, d).reshape(column), 1
    )
    narrow = 1 + 0.14 * head[-2] * (np.arange(d) == d - 1).reshape(column)  # the forehead is narrower than the back
    # below the inside of the skull
    deep = (1 - np.linalg.norm(head / axes.reshape(column) / narrow, axis=0)) * axes.mean()
    if kind == "none":
        return brain(head, deep, body, cut, height), np.zeros(size, bool)

    way = body.normal(size=d)
    way /= np.linalg.norm(way)
    reach, low, high = {"infiltrating": (body.uniform(0.3, 0.55), 0.26, 0.38), "extra_axial": (0.86, 0.32, 0.46)}[kind]
    radius = body.uniform(low, high) * cut.uniform(0.85, 1.0)
    offset = head - (reach * way * axes).reshape(column)  # from the lesion's centre
    near = np.exp(-np.square(offset).sum(0) / (1.3 * radius) ** 2)
    # mass effect: a voxel shows what was pushed there from inside
    tissue = brain(head - 0.35 * offset * near, deep, body, cut, height)
    healthy = tissue.copy()
    lesion = {"infiltrating": infiltrate, "extra_axial": press}[kind](
        tissue, offset, radius, deep, way=way, body=body, height=height
    )
    return (healthy + conspicuity * (tissue - healthy)).clip(0, 1), lesion > 0.5


def brain(
    at: np.ndarray, deep: np.ndarray, body: np.random.Generator, cut: np.random.Generator, height: float
) -> np.ndarray:
    """Tissue (2, *S) of a healthy head; `at` (d, *S) is the place in the head that each voxel shows, `deep` (*S) its
    depth in the skull.
    """
    tissue = np.zeros((2, *deep.shape))
    gyri = waves(at, 0.24, body, height)
    for where, signal in (
        (deep + 0.13, SCALP),
        (deep + 0.07, BONE),
        (deep, CSF),
        (deep - 0.033 - 0.02 * gyri, GRAY),
        (deep - 0.16 - 0.047 * gyri, WHITE),
    ):
        paint(tissue, inside(where), signal)
    # from the midline, from back to front, squared in 3-D
    across, along, above = np.abs(at[-1]), at[-2], np.square(at[:-2]).sum(0)
    paint(tissue, 0.8 * inside(0.02 - across) * inside(deep - 0.033) * inside(np.abs(along) - 0.36), CSF)  # the falx
    nuclei = np.sqrt(((across - 0.22) / 0.10) ** 2 + ((along - 0.02) / 0.17) ** 2 + above / 0.04)
    paint(tissue, 0.8 * inside((1 - nuclei) * 0.13), GRAY)
    wide, long = body.uniform(0.045, 0.10) * cut.uniform(0.8, 1.0), body.uniform(0.22, 0.34)
    ventricles = np.sqrt(((across - 0.03 - wide - 0.9 * along**2) / wide) ** 2 + (along / long) ** 2 + above / 0.09)
    paint(tissue, inside((1 - ventricles) * wide), CSF)
    return tissue


def infiltrate(
    tissue: np.ndarray,
    offset: np.ndarray,
    radius: float,
    deep: np.ndarray,
    *,
    way: np.ndarray,
    body: np.random.Generator,
    height: float,
) -> np.ndarray:
    """Paint an irregular core in a soft halo of oedema; returns the core (*S) in [0, 1]. `offset` (d, *S) is from the
    centre.
    """
    edge = (1 - 0.14 * waves(offset, 0.5, body, height)) * radius - np.linalg.norm(offset, axis=0)
    within = inside(deep - 0.04)
    paint(tissue, 0.95 * within * np.clip(1 + edge / (0.5 * radius), 0, 1) ** 0.8, OEDEMA)
    core = inside(edge) * within
    paint(tissue, core, CORE)
    tissue += 0.05 * core * waves(offset, 0.3, body, height)
    return core


def press(
    tissue: np.ndarray,
    offset: np.ndarray,
    radius: float,
    deep: np.ndarray,
    *,
    way: np.ndarray,
    body: np.random.Generator,
    height: float,
) -> np.ndarray:
    """Paint a mass on the surface of the brain in direction `way` (d,): from a ball to a lens, with a cleft of fluid
    around it.
    """
    flat = body.uniform(0.7, 1.0)
    away = np.sqrt(np.square(offset).sum(0) + np.tensordot(way, offset, 1) ** 2 * (1 / flat**2 - 1))
    edge = (1 - 0.03 * waves(offset, 0.6, body, height)) * radius - away
    within = inside(deep - 0.007)
    paint(tissue, 0.8 * inside(edge + 0.05) * within, CSF)
    mass = inside(edge) * within
    paint(tissue, mass, EXTRA_AXIAL)
    return mass


def _rotation(d: int, angles: np.ndarray) -> np.ndarray:
    """(d, d), one angle in radians for each pair of axes."""
    matrix = np.eye(d)
    for (i, j), angle in zip(combinations(range(d), 2), angles, strict=True):
        turn = np.eye(d)
        turn[[i, j], [i, j]] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix
