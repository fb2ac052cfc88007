"""FedCAR: Kim et al. 2024, arXiv:2412.11463.

"Cross-client Adaptive Re-weighting for Generative Models in Federated Learning". In each round the server generates
images with every site's model, measures how far they are from those of the other sites, and gives a site less weight
the farther away it is. The paper uses the Fréchet distance of a network's features. Here no such network is downloaded,
so the distance is the kernel distance (Gretton et al. 2012, JMLR 13, equation 4) of the images themselves, downsampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.algorithms.fedavg import Arrays, FedAvg, Update
from fedsynth.errors import UserError

if TYPE_CHECKING:
    import torch

COARSE = 8  # grid points per axis at which images are compared


class FedCAR(FedAvg):
    """FedAvg with the weights w_k = n_k exp(-`sharpness` d_k / mean d), normalised over the sites.

    d_k is the mean distance of site k's images to those of the other sites; n_k is replaced by another `weighting`.
    With `sharpness` 0 it is FedAvg; with fewer than three sites all distances are equal. `images` is the number of
    images generated per site and round, of all classes in turn and from the same noise. Raises ValueError for a
    negative `sharpness`.
    """

    def __init__(
        self,
        sharpness: float = 1.0,
        images: int = 48,
        shared: str | list[str] = "*",
        weighting: str = "images",
        local: list[str] | None = None,
    ):
        super().__init__(shared, weighting, local)
        if sharpness < 0:
            raise ValueError(f"sharpness must be at least 0, not {sharpness}")
        self.sharpness, self.images = sharpness, images
        self._family: Any = None
        self._sent: Arrays = {}

    def check(self, family: Any, rounds: int, private: bool) -> None:
        super().check(family, rounds, private)
        if self.local:
            raise UserError(
                "FedCAR draws images of each site's model, of which local parameters do not come; leave `local` out"
            )
        if getattr(family, "given", 0):
            raise UserError(
                "FedCAR draws images at the server, which has no given channels; with image.given take another"
                " algorithm"
            )

    def before_aggregate(self, family: Callable[[], Any], sent: Arrays, scores: dict[str, float | None],
                         steps: Mapping[str, int] | None = None, averaged: bool = False) -> None:  # fmt: skip
        from fedsynth.networks.device import device

        super().before_aggregate(family, sent, scores, steps, averaged)
        self._family, self._sent = self._family or family().to(device()), sent

    def aggregate(self, updates: list[Update]) -> Arrays:
        base = {site: self.weight(site, w) for site, w, _ in updates}
        near = self.nearness(updates)
        return self.combine([(site, base[site] * near[site], d) for site, _, d in updates])

    def nearness(self, updates: list[Update]) -> dict[str, float]:
        """Returns exp(-sharpness d_k / mean d) by site; 1 if no images can be generated or all are the same.

        A site whose model draws no finite images has 0, and does not count for the others.
        """
        if self._family is None or self.sharpness == 0:
            return {site: 1.0 for site, _, _ in updates}
        drawn = {site: self._draw(difference) for site, _, difference in sorted(updates, key=lambda u: u[0])}
        fakes = {site: x for site, x in drawn.items() if x is not None}
        if not fakes:
            return dict.fromkeys(drawn, 1.0)
        far = {a: np.mean([distance(x, y) for b, y in fakes.items() if b != a] or [0.0]) for a, x in fakes.items()}
        middle = float(np.mean(list(far.values())))
        near = {site: math.exp(-self.sharpness * d / middle) if middle > 0 else 1.0 for site, d in far.items()}
        for site in drawn.keys() - near.keys():
            self.said.setdefault(site, []).append("its model draws no finite images, and its update was left out")
        return dict.fromkeys(drawn, 0.0) | near

    def _draw(self, difference: Arrays) -> torch.Tensor | None:
        """Generate images with the site's model; returns them downsampled, as (images, features).

        None if they are not finite, or cannot be drawn: a model of enormous parameters may have no distribution.
        """
        import torch
        import torch.nn.functional as F

        state = {
            name: torch.from_numpy(np.asarray(self._sent[name] + d))
            for name, d in difference.items()
            if ":" not in name
        }
        self._family.load_state_dict(state, strict=False)
        try:
            drawn = self._family.eval().sample(
                torch.arange(self.images) % self._family.labels, None, torch.Generator().manual_seed(0)
            )
        except (RuntimeError, ValueError):
            return None
        if not torch.isfinite(drawn).all():
            return None
        pool: Any = F.adaptive_avg_pool3d if drawn.ndim == 5 else F.adaptive_avg_pool2d
        coarse: torch.Tensor = pool(drawn, [min(COARSE, n) for n in drawn.shape[2:]])
        return coarse.flatten(1).cpu().double()


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Squared kernel distance of two sets (N, F), at least 0.

    The kernel is Gaussian, and its width is the median distance of all pairs.
    """
    import torch

    both = torch.cat([a, b])
    squares = torch.cdist(both, both).square()
    width = squares[squares > 0].median() if (squares > 0).any() else squares.new_ones(())
    kernel = torch.exp(-squares / width)
    n = len(a)
    return max(0.0, float(kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()))
