"""One-shot sharing: each site trains alone and sends its model once; the centre samples from their mixture.

Used by CATphishing (Kim et al. 2025, categorical and phenotypic image synthetic learning) and FederatedFactory. No
site's training depends on another's and nothing is averaged; the centre's set contains images of every site's own
model.
"""

from __future__ import annotations

from typing import Any

from fedsynth.algorithms.fedavg import Arrays, FedAvg, Update
from fedsynth.errors import UserError


class OneShot(FedAvg):
    """FedAvg of one round; the sites' own models are kept at the centre as "<site>/<parameter>", beside their mean.

    families.Mixture samples from them.
    """

    unprotected = "the centre draws from each site's own model, whatever their mean is"

    def check(self, family: Any, rounds: int, private: bool) -> None:
        super().check(family, rounds, private)
        if rounds != 1:
            raise UserError(f"one-shot sharing has training.rounds: 1, not {rounds}; give the site more epochs instead")

    def extra_arrays(self, sent: Arrays, updates: list[Update]) -> Arrays:
        return {f"{site}/{name}": sent[name] + d for site, _, difference in updates for name, d in difference.items()}
