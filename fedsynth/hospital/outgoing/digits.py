"""How many digits a number leaves with: as many as the images that it rests on support."""

from __future__ import annotations

import math


def digits(n: int) -> int:
    """The decimals of a share of n images.

    A share has a standard error of at most 1 / (2 sqrt(n)) (binomial, at one half). The last digit kept is a tenth to a
    hundredth of that, so that rounding adds less than 0.1 % to the variance: 2 decimals up to 25 images, 3 up to 2500,
    4 up to 250 000. What is beyond says nothing of the population, and much of these very images: with six digits the
    fractions that a mean is made of can be solved for.
    """
    return math.ceil(math.log10(2 * math.sqrt(max(n, 1)))) + 1


def of_use(value: float | None, n: int) -> float | None:
    """A metric of a use on n images: a share with `digits(n)` decimals, what is above 1 (pixels) with as many
    significant digits. Doing it twice changes nothing, here as below.
    """
    return None if value is None else round(value, digits(n)) if abs(value) < 1 else _significant(value, digits(n))


def of_measure(value: float | None, n: int) -> float | None:
    """A number of a measure on n images. Measures have scales of their own (a KID of 0.001, a PSNR of 30 dB), so that
    significant digits count, and one more of them: some vary little for their size.
    """
    return None if value is None else _significant(value, digits(n) + 1)


def of_covariance(matrix: list[list[float]], n: int) -> list[list[float]]:
    """A covariance over n images with `digits(n)` + 1 significant digits of its largest entry, one step everywhere."""
    for _ in range(2):  # 0.99996 becomes 1.0, and is then rounded in the next larger step
        largest = max((abs(v) for line in matrix for v in line), default=0.0)
        decimals = digits(n) - math.floor(math.log10(largest)) if largest else 0
        matrix = [[round(v, decimals) for v in line] for line in matrix]
    return matrix


def _significant(value: float, many: int) -> float:
    return float(f"{value:.{many}g}")
