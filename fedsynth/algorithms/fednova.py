"""FedNova: Wang et al. 2020, arXiv:2007.07481, "Tackling the Objective Inconsistency Problem in Heterogeneous
Federated Optimization", section 4.
"""

from __future__ import annotations

from fedsynth.algorithms.fedavg import Arrays, FedAvg, Update


class FedNova(FedAvg):
    """FedAvg with each site's difference divided by its number of steps, and their mean multiplied by a mean number.

    A site of ten times as many images takes ten times as many steps in an epoch. In FedAvg it then counts a hundred
    times as much: once for its weight, once for the way that it goes. Normalised averaging takes the second away. With
    `training.local_steps`, the same at every site, it is FedAvg.

    The update is (sum p_k tau_k) (sum p_k Delta_k / tau_k), where p_k is the site's share of the weights and tau_k its
    number of steps. This follows from its number of images and from `training`; no site can say another. Averaged (EMA)
    weights, which sites send in the last round of a phase, and `local` parameters are not the way of so many steps:
    their plain mean is taken.
    """

    def aggregate(self, updates: list[Update]) -> Arrays:
        weights = {site: self.weight(site, images) for site, images, _ in updates}
        if self._averaged or not weights.keys() <= self._steps.keys():
            return super().aggregate(updates)
        steps = self._steps
        mean = sum(weight * steps[site] for site, weight in sorted(weights.items())) / sum(weights.values())
        return self.combine([(site, weights[site], self._scaled(d, mean / steps[site])) for site, _, d in updates])

    def _scaled(self, difference: Arrays, factor: float) -> Arrays:
        return {n: a if self.is_local(n) else (factor * a).astype(a.dtype) for n, a in difference.items()}
