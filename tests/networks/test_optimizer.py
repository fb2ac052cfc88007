"""The optimiser without torch's compiler: the same numbers as AdamW, and a lighter process."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import torch

from fedsynth.networks.optimizer import LeanAdamW


def trained(kind, steps: int, state=None, net=None):
    torch.manual_seed(0)
    net = net or torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))
    optimizer = kind(net.parameters(), lr=1e-2, betas=(0.5, 0.9), weight_decay=0.1)
    if state:
        optimizer.load_state_dict(state)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        net(torch.randn(4, 5)).square().mean().backward()
        optimizer.step()
    return net, optimizer


def test_it_takes_the_steps_of_adamw_bit_for_bit_also_after_a_restart():
    nets = []
    for kind in (partial(torch.optim.AdamW, fused=True), LeanAdamW):
        net, optimizer = trained(kind, 5)
        nets.append(trained(kind, 5, optimizer.state_dict(), net)[0])
    for plain, lean in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(plain, lean)


def test_a_step_builds_no_graph():
    net, _ = trained(LeanAdamW, 2)
    assert all(p.is_leaf and p.grad_fn is None for p in net.parameters())


def test_a_site_that_trains_never_loads_the_compiler_nor_what_monai_only_looks_for():
    code = """
import sys, torch
from fedsynth.families.vae import VAE
from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.params import Training
from fedsynth.training.trainer import Trainer
family = VAE(1, 0, 1, (16, 16))
received = {n: p.detach().numpy().copy() for n, p in family.named_parameters()}
x, y = torch.randn(4, 1, 16, 16), torch.zeros(4, dtype=torch.long)
Trainer(family, FedAvg(), Training(rounds=1, clip=1.0, ema=0.9), x, y, None, 0).round(received, 0)
print([name for name in ("torch._dynamo", "scipy", "sklearn", "nibabel", "requests") if name in sys.modules])
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
