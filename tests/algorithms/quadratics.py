"""Sites whose losses are quadratics, trained with plain gradient steps through the algorithms' own halves.

Site k has the loss (w - c_k)' A_k (w - c_k) / 2, weight n_k and K_k steps a round, so that a round's result is an
affine map of what was received and its fixed point the solution of a linear system.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

RATE = 0.05
Matrix = np.ndarray


@dataclass(frozen=True)
class Site:
    curvature: Matrix  # A_k
    centre: np.ndarray  # c_k
    weight: float  # n_k
    steps: int  # K_k

    def left(self, rate: float = RATE, pull: float = 0.0) -> Matrix:
        """What is left of a distance from the local optimum after the steps: (I - rate (A + pull I))^K."""
        one = np.eye(len(self.centre))
        return np.linalg.matrix_power(one - rate * (self.curvature + pull * one), self.steps)


def sites(weights: tuple[float, ...] = (8.0, 3.0, 1.0), steps: tuple[int, ...] = (8, 8, 8)) -> list[Site]:
    rng, found = np.random.default_rng(0), []
    for weight, k in zip(weights, steps, strict=True):
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        found.append(Site(turn @ np.diag(rng.uniform(1, 6, 3)) @ turn.T, rng.normal(size=3) * 3, weight, k))
    return found


class Point(nn.Module):
    """The parameter w, which is the model."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3, dtype=torch.float64))


def federate(make: Callable[[], Any], of: list[Site], rounds: int, rate: float = RATE, start: Any = 0.0) -> np.ndarray:
    """Returns w (3,) after so many rounds of all sites from `start`."""
    server, halves = make(), [(make(), Point()) for _ in of]
    current = server.prepare({"w": np.zeros(3) + start})
    for _ in range(rounds):
        updates = [
            (str(k), site.weight, _round(*halves[k], site, current, rate)) for k, site in enumerate(of)
        ]  # in the order of the sites' names
        server.before_aggregate(Point, current, {}, {str(k): site.steps for k, site in enumerate(of)})
        change = server.aggregate(updates)
        current = {name: array + change[name] for name, array in current.items()}
    return current["w"]


def _round(algorithm: Any, model: Point, site: Site, current: dict[str, np.ndarray], rate: float) -> dict[str, Any]:
    received = {name: torch.from_numpy(array) for name, array in current.items()}
    algorithm.begin(model, received)
    curvature, centre = torch.from_numpy(site.curvature), torch.from_numpy(site.centre)
    for _ in range(site.steps):
        with torch.no_grad():
            slope = curvature @ (model.w - centre)
        if isinstance(penalty := algorithm.penalty(model, model), torch.Tensor):
            slope = slope + torch.autograd.grad(penalty, [model.w])[0]
        with torch.no_grad():
            model.w -= rate * slope
        algorithm.after_step(model, model, rate)
    return {name: d.detach().numpy().copy() for name, d in algorithm.end(model, received).items()}


def shares(of: list[Site]) -> np.ndarray:
    weights = np.array([site.weight for site in of])
    return weights / weights.sum()


def optimum(of: list[Site], weights: np.ndarray) -> np.ndarray:
    """Returns where the weighted mean of the sites' losses is smallest."""
    return solve([w * site.curvature for w, site in zip(weights, of, strict=True)], of)


def solve(matrices: list[Matrix], of: list[Site]) -> np.ndarray:
    """Returns w with sum M_k (w - c_k) = 0."""
    return np.linalg.solve(sum(matrices), sum(m @ site.centre for m, site in zip(matrices, of, strict=True)))
