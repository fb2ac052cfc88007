"""Blocks that are computed anew in the backward pass: the same numbers to the bit, with less memory."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.families.diffusion import Diffusion
from fedsynth.families.vae import VAE
from fedsynth.networks.recompute import _blocks, recomputed
from fedsynth.params import Training
from fedsynth.training.trainer import Trainer
from tests.apart import last_line
from tests.contracts.test_families import FAMILIES, make


def trained(cls, size, **changes):
    family = make(cls, size, 1)
    torch.manual_seed(5)
    x, given = torch.rand((4, 2, *size)) * 2 - 1, torch.rand((4, 1, *size)) * 2 - 1
    plan = Training(**({"rounds": 2, "local_steps": 2, "batch": 4} | cls.defaults | changes))
    start = {name: p.detach().numpy().copy() for name, p in family.named_parameters()}
    t = Trainer(family, FedAvg(), plan, x, torch.arange(4) % 3, given, 1)
    return [t.round(start, number) for number in range(2)], t.family


@pytest.mark.parametrize(
    ("cls", "size"),
    [*((cls, (16, 16)) for cls in FAMILIES), (Diffusion, (8, 8, 8)), (VAE, (8, 8, 8))],
    ids=lambda of: getattr(of, "__name__", f"{len(of)}-D" if isinstance(of, tuple) else None),
)
def test_every_family_learns_the_same_to_the_bit(cls, size):
    (plain, _), (anew, family) = trained(cls, size), trained(cls, size, recompute=True)
    assert any(type(block).__module__ == "fedsynth.networks.recompute" for block in family.modules())
    for one, other in zip(plain, anew, strict=True):
        assert one.losses == other.losses
        assert all(np.array_equal(one.difference[name], other.difference[name]) for name in one.difference)


@pytest.mark.parametrize("cls", FAMILIES, ids=lambda c: c.__name__)
def test_names_of_parameters_and_samples_stay_and_a_copy_is_as_the_original(cls):
    family = make(cls, (16, 16), 1)
    plain, given = copy.deepcopy(family), torch.zeros((3, 1, 16, 16))
    assert len(list(_blocks(family))) > 1
    assert recomputed(family) is family
    twice = copy.deepcopy(recomputed(family))
    assert list(family.state_dict()) == list(plain.state_dict())
    drawn = [f.eval().sample(torch.arange(3), given, torch.Generator().manual_seed(1)) for f in (plain, family, twice)]
    assert drawn[0].equal(drawn[1])
    assert drawn[0].equal(drawn[2])
    for p in family.parameters():
        torch.nn.init.constant_(p, 0.01)
    assert not drawn[2].equal(family.sample(torch.arange(3), given, torch.Generator().manual_seed(1)))
    assert drawn[2].equal(twice.sample(torch.arange(3), given, torch.Generator().manual_seed(1)))


MEMORY = """
import sys, torch
from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.families.diffusion import Diffusion
from fedsynth.families.vae import VAE
from fedsynth.params import Training
from fedsynth.training.trainer import Trainer
from tests.apart import peak_mib
torch.set_num_threads(1)
family = Diffusion(1, 0, 2, (32, 32, 32), channels=(16, 16, 32), blocks=2, patch=1)
plan = Training(rounds=1, local_steps=1, batch=4, **eval(sys.argv[1]))
x = torch.zeros((4, 1, 32, 32, 32))
t = Trainer(family, FedAvg(), plan, x, torch.arange(4) % 2, None, 1)
start = {name: p.detach().numpy().copy() for name, p in family.named_parameters()}
before = peak_mib()
t.round(start, 0)
print(peak_mib() - before)
"""


def megabytes(changes: dict) -> float:
    return float(last_line("-c", MEMORY, repr(changes)))


def test_a_step_on_volumes_takes_less_memory_in_parts_and_with_blocks_computed_anew():
    """A U-Net of three levels on four volumes of 32^3, by the largest memory of a process of its own."""
    whole = megabytes({})
    assert megabytes({"recompute": True}) < 0.9 * whole
    assert megabytes({"accumulate": 4}) < 0.85 * whole


def kept(family) -> int:
    """Bytes that a loss keeps for its backward pass."""
    found = {}

    def pack(x):
        found[x.data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        family.train().loss("unet", torch.zeros((2, 1, 16, 16, 16)), torch.arange(2), None).backward()
    return sum(found.values())


def test_of_a_u_net_only_what_enters_its_blocks_is_kept():
    made = [Diffusion(1, 0, 2, (16, 16, 16), channels=(16, 16, 32), blocks=2, patch=1) for _ in range(2)]
    assert kept(recomputed(made[1])) < 0.5 * kept(made[0])
