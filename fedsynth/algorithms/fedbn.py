"""FedBN: Li et al. 2021, "Federated Learning on Non-IID Features via Local Batch Normalization", arXiv:2102.07623,
algorithm 1.
"""

from __future__ import annotations

from typing import Any

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.errors import UserError

NORMS = ["*norm*", "*.N.*", "*unet.out.0.*"]  # as MONAI names its normalisation layers; the last is a U-Net's final one


class FedBN(FedAvg):
    """FedAvg whose normalisation layers each site has for itself, as its scanner asks for. `local` = [] is FedAvg.

    The paper's models stay at their sites. The centre's, which samples, gets the mean of the sites' layers in the last
    round. (Of latent diffusion's autoencoder the last normalisation layers are named by their place only and stay
    shared; name them in `local`.)
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
