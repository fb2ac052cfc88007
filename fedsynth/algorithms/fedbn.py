"""FedBN: Li et al. 2021, "Federated Learning on Non-IID Features via Local Batch Normalization", arXiv:2102.07623, algorithm 1."""

from __future__ import annotations

from fedsynth.algorithms.fedavg import FedAvg

NORMS = ["*norm*", "*.N.*", "unet.out.0.*"]  # as MONAI names its normalisation layers; the last is a U-Net's final one


class FedBN(FedAvg):
    """FedAvg whose normalisation layers each site has for itself, as its scanner asks for. `local` = [] is FedAvg.

    The paper's models stay at their sites. The centre's, which samples, gets the mean of the sites' layers in the last round.
    """

    def __init__(self, shared: str | list[str] = "*", weighting: str = "images", local: list[str] | None = None):
        super().__init__(shared, weighting, NORMS if local is None else local)
