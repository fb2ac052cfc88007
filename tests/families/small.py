"""A set that a family can learn in seconds, and the rounds of one site on it."""

import torch

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.params import Training
from fedsynth.training.trainer import Trainer


def striped(n: int, channels: int = 2, size: int = 16, noise: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    """x (n, channels, size, size), y (n,): a ramp down (0), a ramp across (1) or an even field (2), of a brightness of
    its own.
    """
    generator = torch.Generator().manual_seed(3)
    ramp = torch.linspace(-0.8, 0.8, size)
    kinds = torch.stack([ramp[:, None].expand(size, size), ramp[None].expand(size, size), torch.zeros(size, size)])
    y = torch.arange(n) % 3
    x = kinds[y][:, None].expand(n, channels, size, size) + noise * torch.randn((n, 1, 1, 1), generator=generator)
    return x.clamp(-1, 1), y


def federated(family, rounds, n=24, algorithm=None, state=None, start=0, current=None, **changes):
    """The family after some rounds of one site, with the images and the labels it was trained on."""
    x, y = striped(n)
    algorithm = algorithm or FedAvg()
    training = Training(**({"rounds": rounds, "epochs": 10, "batch": 8, "lr": 2e-3, "clip": None} | changes))
    trainer = Trainer(family, algorithm, training, x, y, None, 1, state)
    current = current or algorithm.prepare(
        {n: p.detach().numpy().copy() for n, p in algorithm.parameters(family).items()}
    )
    for number in range(start, rounds):
        change = algorithm.aggregate([("only", 1.0, trainer.round(current, number).difference)])
        current = {n: a + change[n] for n, a in current.items()}
    with torch.no_grad():
        for name, parameter in algorithm.parameters(family).items():
            parameter.copy_(torch.from_numpy(current[name]))
    return family.eval(), x, y
