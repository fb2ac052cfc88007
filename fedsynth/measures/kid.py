"""KID: unbiased squared MMD of features with a polynomial kernel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np

from fedsynth.measures import About, Answer, Measure, MeasureInputs
from fedsynth.measures._statistics import beside_floor, blocks

WHICH: tuple[Literal["held_out", "train", "synthetic"], ...] = ("held_out", "train", "synthetic")


class KID(Measure):
    """Squared maximum mean discrepancy of features with the kernel (x.y / F + 1)^3, within each class.

    Binkowski et al. 2018, arXiv:1801.01401, section 4; averaged over the classes, weighted by their held-out images. It
    is computed by class because the class shares of both sets are matched and not random: over all images the estimate
    would lie below 0.
    """

    about: ClassVar = {
        "kid": About(
            "lower",
            "KID",
            "Squared maximum mean discrepancy (cubic kernel) between the features of held-out real and of synthetic"
            " images of one class, mean over the classes; unbiased: 0 on average between samples of one distribution,"
            " so that it may be negative.",
            (-math.inf, math.inf),
        ),
    }
    independent = False

    def at_site(self, seen: MeasureInputs) -> Answer:
        labelled = [
            np.column_stack([images.labels(seen.image), seen.features(which)]) if len(images) else np.zeros((0, 2))
            for which, images in zip(WHICH, (*seen.real, seen.synthetic), strict=True)
        ]
        held_out, train, synthetic = labelled
        ends = {"kid": (-math.inf, math.inf)}
        return Answer(
            beside_floor(seen, lambda a, b: {"kid": by_class(a, b)}, held_out, train, synthetic, "kid", within=ends)
        )


def by_class(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Returns the mean of `kid` over the classes, weighted by the images of `reference`.

    The arrays are (N, 1 + F), labels before features. Classes with a single image are left out.
    """
    classes, counts = np.unique(reference[:, 0], return_counts=True)
    found = np.array([kid(reference[reference[:, 0] == k, 1:], candidate[candidate[:, 0] == k, 1:]) for k in classes])
    known = np.isfinite(found)
    return float(np.average(found[known], weights=counts[known])) if known.any() else float("nan")


def kid(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Returns the KID of features (N, F) and (N', F); NaN for fewer than two images.

    It uses torchmetrics' kernel, but not its sums, which require N = N'.
    """
    if min(len(reference), len(candidate)) < 2:
        return float("nan")
    import torch
    from torchmetrics.image.kid import poly_kernel

    x, y = torch.from_numpy(reference), torch.from_numpy(candidate)
    between = sum(float(poly_kernel(x[rows], y).mean()) * (len(x[rows]) / len(x)) for rows in blocks(len(x)))
    within = (_off_diagonal_mean(lambda rows, z=z: poly_kernel(z[rows], z).numpy(), len(z)) for z in (x, y))  # type: ignore[misc]
    return sum(within) - 2 * between


def _off_diagonal_mean(kernel: Callable[[slice], np.ndarray], n: int) -> float:
    """Returns the mean of a kernel (n, n) without its diagonal, of which `kernel` gives some rows."""
    sums = [of.sum() - np.trace(of[:, rows]) for rows in blocks(n) for of in (kernel(rows),)]
    return float(sum(sums) / (n * (n - 1)))
