"""How much of a hospital's images an attacker has: reconstructions against what anyone could have guessed.

Legend: R reconstructions · N training images · M others · P values of an image's attacked channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CLOSE, EXACT = 0.5, 1e-2


@dataclass(frozen=True)
class Recovered:
    """What an attack got.

    Attributes:
        shown: training images of which a reconstruction is nearer than half the distance of the best guess (CLOSE).
        exact: those of them of which every pixel is off by less than EXACT; values are from -1 to 1.
        best: smallest distance of a reconstruction to a training image, over that of the best guess at that image.
        median: the median of that quotient over the images that are shown; 1, a guess, where none is.
        correlation, guessed: of the best reconstruction, and of the best guess, with the image, all without the mean.
        of: training images.
    """

    shown: int
    exact: int
    best: float
    median: float
    correlation: float
    guessed: float
    of: int


def compare(found: np.ndarray, train: np.ndarray, others: np.ndarray, flip: bool = False) -> Recovered:
    """Hold reconstructions (R, C, H, W) against the training images (N, C, H, W), mirrored too where training mirrored.

    The best guess at an image is the nearest to it of all other training images, of `others` (M, C, H, W), which are
    the attacker's own, and of their mean. Distances are root mean squares. A reconstruction with NaN or Inf is none.
    """
    n = len(train)
    x, t, o = (_flat(a) for a in (found, np.concatenate([train, train[..., ::-1]]) if flip else train, others))
    x = x[np.isfinite(x).all(1)].clip(-1, 1)
    guesses = np.concatenate([t, o, o.mean(0, keepdims=True)])
    apart = distances(t, guesses)
    apart[
        np.arange(len(t))[:, None] % n == np.where(np.arange(len(guesses)) < len(t), np.arange(len(guesses)) % n, -1)
    ] = np.inf
    if not len(x):
        return Recovered(0, 0, 1.0, 1.0, 0.0, 0.0, n)
    quotient = distances(x, t) / apart.min(1)
    whose, of = quotient.argmin(1), quotient.min(1)
    shown = {int(whose[r] % n): int(r) for r in np.argsort(-of) if of[r] < CLOSE}  # the best of each image
    rows, best = list(shown.values()), int(of.argmin())
    target, guess = t[whose[best]], guesses[apart[whose[best]].argmin()]
    exact = sum(bool(np.abs(x[r] - t[whose[r]]).max() < EXACT) for r in rows)
    return Recovered(
        shown=len(shown),
        exact=exact,
        best=float(of[best]),
        median=float(np.median(of[rows])) if rows else 1.0,
        correlation=correlation(x[best] - o.mean(0), target - o.mean(0)),
        guessed=correlation(guess - o.mean(0), target - o.mean(0)),
        of=n,
    )


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float64)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the root mean square differences (A, B) between the rows of a (A, P) and b (B, P)."""
    squared = (a**2).mean(1)[:, None] + (b**2).mean(1)[None] - 2 * (a @ b.T) / a.shape[1]
    return np.sqrt(np.maximum(squared, 0))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length else 0.0
