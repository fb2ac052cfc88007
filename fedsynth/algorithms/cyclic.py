"""Cyclic weight transfer: Chang et al. 2018, "Distributed deep learning networks among institutions for medical
imaging", JAMIA 25(8).
"""

from __future__ import annotations

from fedsynth.algorithms.fedavg import FedAvg


class Cyclic(FedAvg):
    """The model goes from site to site: in each round one of them trains, in the order of their names, and hands it on
    through the centre.

    `training.rounds` are visits: a multiple of the number of sites gives each as many. A site that is not connected
    when its turn has come is passed over, and the turns are those of the others meanwhile.
    """

    always = False  # not every site in each round

    def sites_of_round(self, sites: list[str], number: int) -> list[str]:
        return [sorted(sites)[number % len(sites)]] if sites else []
