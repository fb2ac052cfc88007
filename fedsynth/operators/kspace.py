"""MR undersampling operator: keeps some of the k-space lines."""

from __future__ import annotations

import torch
from torch import Tensor

from fedsynth.operators import Operator

HEADROOM = 3.0  # a zero-filled image rings beyond [-1, 1], so it is stored divided by this factor


class Undersample(Operator):
    """Cartesian undersampling of k-space by `factor` along the spatial axis `axis`, with a fully sampled centre.

    The given channel is the zero-filled image: the inverse transform with 0 in the lines that are not measured. The
    share `centre` of low frequencies is fully sampled; the other lines are drawn at random (as in fastMRI: Zbontar et
    al. 2018, arXiv:1811.08839, section 4.2). The seed `pattern` determines the lines, which are the same for every
    image, as in one protocol of a scanner.

    Stored images are magnitudes and hence real: line -k is the conjugate of line k, and both are measured or neither.
    Of N lines, line 0 and as many pairs as fit in N / factor are measured. (MONAI's masks, made for complex k-space,
    measure one line of a pair, which amounts to measuring both.) A magnitude has lost its phase, and the scanner had
    many coils, so results here do not carry over to a scanner (Shimron et al. 2022, doi:10.1073/pnas.2117203119).
    Raises ValueError if `factor` < 1 or `centre` is not in [0, 1].
    """

    def __init__(self, factor: float = 4, centre: float = 0.08, axis: int = -2, pattern: int = 0):
        if factor < 1 or not 0 <= centre <= 1:
            raise ValueError(f"factor must be at least 1 and centre a share, not {factor} and {centre}")
        self.factor, self.centre, self.axis, self.pattern = factor, centre, axis, pattern

    def measured(self, n: int) -> Tensor:
        """Returns (n // 2 + 1,) bool: which frequencies 0 … n // 2 of a real signal of n values are measured."""
        lines = torch.zeros(n // 2 + 1, dtype=torch.bool)
        if self.factor == 1:
            return ~lines
        pairs, low = (max(0, int((share - 1) // 2)) for share in (n / self.factor, n * self.centre))
        low = min(low, pairs)
        others = torch.randperm((n - 1) // 2 - low, generator=torch.Generator().manual_seed(self.pattern))[
            : pairs - low
        ]
        lines[: low + 1] = True
        lines[low + 1 + others] = True
        return lines

    def degrade(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self._inverse(self._lines(x) * self._mask(x), x) / HEADROOM

    def estimate(self, given: Tensor) -> Tensor:
        """Returns the zero-filled image."""
        return (HEADROOM * given).clamp(-1, 1)

    def consistent(self, x: Tensor, given: Tensor) -> Tensor:
        """Replace the measured k-space lines of the generated images by the measured values.

        This is the data-consistency layer of Schlemper et al. 2017 (arXiv:1704.02422, equation 5) without noise, lambda
        to infinity.
        """
        return self._inverse(torch.where(self._mask(x), self._lines(HEADROOM * given.double()), self._lines(x)), x)

    def _lines(self, x: Tensor) -> Tensor:
        """Fourier transform along `axis` only.

        The mask selects whole lines, so transforms along the other axes would cancel.
        """
        return torch.fft.rfft(x.double(), dim=self.axis, norm="ortho")

    def _inverse(self, k: Tensor, like: Tensor) -> Tensor:
        return torch.fft.irfft(k, n=like.shape[self.axis], dim=self.axis, norm="ortho").to(like.dtype)

    def _mask(self, x: Tensor) -> Tensor:
        """Returns the mask of measured lines, shaped to broadcast with the output of `_lines`."""
        shape = [1] * x.ndim
        shape[self.axis] = -1
        return self.measured(x.shape[self.axis]).to(x.device).view(shape)
