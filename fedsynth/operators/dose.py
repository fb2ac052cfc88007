"""Low-dose operator: Poisson noise for a given number of photons."""

from __future__ import annotations

import torch
from torch import Tensor

from fedsynth.operators import Operator


class LowDose(Operator):
    """Poisson noise of `photons` at full signal, plus Gaussian electronic noise of standard deviation `sigma`.

    z = Poisson(photons u) / photons + sigma n, u = (x + 1) / 2 in [0, 1] (Foi et al. 2008,
    doi:10.1109/TIP.2008.2001399, equations 1 to 4); `sigma` is a share of full signal. The result is clipped to the
    range, as in a file.

    The noise is independent per pixel, as in emission images and projections. In computed tomography, noise arises in
    the projections, which a reconstructed image does not contain: here it is white where a scanner's noise has streaks.
    Raises ValueError if `photons` <= 0 or `sigma` < 0.
    """

    def __init__(self, photons: float = 50, sigma: float = 0.05):
        if photons <= 0 or sigma < 0:
            raise ValueError(f"photons must be above 0 and sigma at least 0, not {photons} and {sigma}")
        self.photons, self.sigma = photons, sigma

    def degrade(self, x: Tensor, generator: torch.Generator) -> Tensor:
        u = ((x + 1) / 2).clamp(0, 1)
        counted = torch.poisson(self.photons * u, generator=generator) / self.photons
        return (2 * (counted + self.sigma * torch.randn(u.shape, generator=generator)) - 1).clamp(-1, 1)
