"""Cyclic weight transfer: Chang et al. 2018, JAMIA 25(8).

"Distributed deep learning networks among institutions for medical imaging".
"""

from __future__ import annotations

from fedsynth.algorithms.fedavg import FedAvg


class Cyclic(FedAvg):
    """One site trains per round, in alphabetical order, and passes the model on through the centre.

    `training.rounds` is the number of visits; a multiple of the number of sites gives every site equally many. A site
    that is not connected at its turn is skipped, and the other sites take turns meanwhile.
    """

    always = False  # not every site trains in each round
    unprotected = "one site trains in each round, and there is nothing to compare its update with"

    def sites_of_round(self, sites: list[str], number: int) -> list[str]:
        return [sorted(sites)[number % len(sites)]] if sites else []
