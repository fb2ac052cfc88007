"""A family that trains in milliseconds, and sites of random images: for tests of the loop and the algorithms."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import torch
from torch import nn

from fedsynth.families import Family
from fedsynth.families.gan import GAN
from fedsynth.params import Training
from fedsynth.training.trainer import Trainer


class Toy(Family):
    """Two players: `first` learns the images themselves, `second` their negative; both from noise and the label."""

    labels = 3

    def __init__(self, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1)

    def players(self):
        return {"first": self.first, "second": self.second}

    def loss(self, player, x, y, given):
        sign = 1 if player == "first" else -1
        seen = x + 0.1 * torch.randn_like(x) + y.reshape(-1, 1, 1, 1)
        return (getattr(self, player)(seen) - sign * x).square().mean()

    @torch.no_grad()
    def sample(self, y, given=None, generator=None):
        return torch.tanh(self.first(torch.randn((len(y), 2, 4, 4), generator=generator)))


class Plain(Toy):
    """Nothing is left to chance."""

    def loss(self, player, x, y, given):
        sign = 1 if player == "first" else -1
        return (getattr(self, player)(x + y.reshape(-1, 1, 1, 1)) - sign * x).square().mean()


class Failing(Toy):
    """Fails in every process but the site's own."""

    def __init__(self):
        super().__init__()
        self.home = os.getpid()

    def loss(self, player, x, y, given):
        if os.getpid() != self.home:
            raise MemoryError("no room for 4 GB")
        return super().loss(player, x, y, given)


class Slow(Toy):
    def loss(self, player, x, y, given):
        time.sleep(0.2)
        return super().loss(player, x, y, given)


def gan() -> GAN:
    """Of 8 x 8 pixels, with nothing left to chance but z and the penalty."""
    torch.manual_seed(0)
    return GAN(generated=1, given=0, labels=2, size=(8, 8), latent=4, channels=(4, 8), width=4, depth=1, shift=0.0)


def training(**changes: Any) -> Training:
    return Training(**({"rounds": 3, "epochs": 1, "batch": 4, "lr": 0.05} | changes))


def images(site: int, n: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(site)
    return torch.rand((n, 2, 4, 4), generator=generator) * 2 - 1, torch.arange(n) % 3


def trainer(algorithm, site: int = 0, seed: int = 1, state=None, n: int = 10, **changes: Any) -> Trainer:
    return Trainer(Toy(), algorithm, training(**changes), *images(site, n), None, seed, state)


def federate(make, sites: int = 2, rounds: int = 3, reverse: bool = False, numbers: tuple[int, ...] = (),
             **changes: Any) -> dict[str, np.ndarray]:  # fmt: skip
    """Global parameters (and what travels beside them) after some rounds; `make` gives an algorithm.

    `numbers` of the sites' images; 10 at each, unless given.
    """
    numbers = numbers or (10,) * sites
    trainers = [trainer(make(), k, seed=k + 1, n=n, rounds=rounds, **changes) for k, n in enumerate(numbers)]
    server, plan = make(), trainers[0].training
    current = server.prepare({n: p.detach().numpy().copy() for n, p in server.parameters(Toy()).items()})
    for number in range(rounds):
        updates = []
        for site, t in enumerate(trainers):
            torch.manual_seed(100 * number + site)  # a site's own process has its own random state; here they share one
            update = t.round(current, number)
            updates.append((f"site{site}", update.weight * (site + 1), update.difference))
        steps = {f"site{site}": t.steps for site, t in enumerate(trainers)}
        ends = trainers[0].family.phase(number, plan.rounds)[2] == number + 1
        server.before_aggregate(Toy, current, {}, steps, averaged=bool(plan.ema) and ends)
        change = server.aggregate(updates[::-1] if reverse else updates)
        current = {n: a + change[n] for n, a in current.items()}
    return current
