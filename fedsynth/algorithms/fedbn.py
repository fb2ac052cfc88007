"""FedBN: Li et al. 2021, arXiv:2102.07623, algorithm 1.

"Federated Learning on Non-IID Features via Local Batch Normalization".
"""

from __future__ import annotations

from typing import Any

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.errors import UserError

NORMS = ["*norm*", "*.N.*", "*unet.out.0.*"]  # MONAI's names of normalisation layers; the last is a U-Net's final one


class FedBN(FedAvg):
    """FedAvg with normalisation layers that stay local to each site, to fit its scanner. `local` = [] is FedAvg.

    In the paper the models stay at the sites. Here the centre's model, which is used for sampling, gets the mean of the
    sites' layers in the last round. (The last normalisation layers of latent diffusion's autoencoder have only numbers
    as names and stay shared; add them to `local` if needed.)
    """

    def __init__(self, shared: str | list[str] = "*", weighting: str = "images", local: list[str] | None = None):
        super().__init__(shared, weighting, NORMS if local is None else local)

    def check(self, family: Any, rounds: int, private: bool) -> None:
        super().check(family, rounds, private)
        if self.local and len(self.common(family)) == len(self.parameters(family)):
            raise UserError(
                f"FedBN finds no normalisation layer by {self.local} in what {type(family).__name__} shares; name them"
                " in `local`"
            )
