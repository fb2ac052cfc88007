"""KID: like FID without the assumption of normal features, and unbiased, so that few images do not make it larger."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fedsynth.measures import About, Answer, Measure, Seen, beside_floor


class KID(Measure):
    """Squared maximum mean discrepancy of features with the kernel (x.y / F + 1)^3 (Binkowski et al. 2018, arXiv:1801.01401, section 4)."""

    about: ClassVar = {
        "kid": About(
            "lower",
            "KID",
            "Squared maximum mean discrepancy (cubic kernel) between the features of held-out real and of synthetic images; unbiased: 0 on "
            "average between samples of one distribution, so that it may be negative.",
        ),
    }
    independent = False

    def at_site(self, seen: Seen) -> Answer:
        sets = seen.features("held_out"), seen.features("train"), seen.features("synthetic")
        return Answer(beside_floor(seen, lambda a, b: {"kid": kid(a, b)}, *sets, "kid"))


def kid(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Of features (N, F) and (N', F); NaN below two images. torchmetrics' kernel, but not its sums: they ask for N = N'."""
    if min(len(reference), len(candidate)) < 2:
        return float("nan")
    import torch
    from torchmetrics.image.kid import poly_kernel

    x, y = torch.from_numpy(reference), torch.from_numpy(candidate)
    between = float(poly_kernel(x, y).mean())
    return sum(_off_diagonal_mean(poly_kernel(z, z).numpy()) for z in (x, y)) - 2 * between


def _off_diagonal_mean(kernel: np.ndarray) -> float:
    n = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))
