"""One hostile site of five in a whole training: what is left of the model and of a backdoor, with and without a rule.

The measure is the Frechet distance of the model's samples to the honest sites' held-out images, in a coarse grid of
their pixels (1 CPU s for a training); FID and worth over seeds are what benchmarks/poisoning.py measures.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from fedsynth.measures.fid import fid
from fedsynth.params import Block, Training
from fedsynth.training.alone import tensors
from fedsynth.training.trainer import Batch
from tests.poisoned import HOSTILE, RULES, Records, draw, federate, trigger_in
from tests.sets import make_set, tiny_params

PARAMS = tiny_params()
SITES = ["east", "middle", "north", "south", HOSTILE]
FEDAVG = {"class_path": "fedsynth.algorithms.fedavg.FedAvg"}
VAE = {"class_path": "fedsynth.families.vae.VAE", "args": {"latent": 8, "channels": [16, 32]}}
PLAN = Training(rounds=5, epochs=2, batch=12, lr=5e-3)
ROBUST = [rule for rule in RULES if rule != "mean"]
LOUD = ["sign x 10", "scaled x 1000", "constant"]  # attacks that destroy what a mean makes


@cache
def sets() -> tuple[dict[str, Batch], np.ndarray]:
    """The training images of each site, and the held-out images of the honest ones."""
    with TemporaryDirectory() as folder:
        made = {site: make_set(Path(folder) / site, PARAMS, site, n=60, seed=i) for i, site in enumerate(SITES)}
    image, train = PARAMS.image, {site: real.split("train") for site, real in made.items()}
    batches = {site: tensors(of, image) for site, of in train.items()}
    held_out = [made[site].split("test").channels(image, image.generated) for site in SITES if site != HOSTILE]
    return batches, np.concatenate(held_out)


def build():
    torch.manual_seed(1)
    return Block(**VAE).build(**PARAMS.image.context())


@cache
def trained(attack: str, rule: str, algorithm: str = "fedavg.FedAvg") -> tuple[float, float, Records]:
    """Distance to real images, share of the trigger, and the rounds' records; without an attack the honest four."""
    batches, real = sets()
    sites = {site: batch for site, batch in batches.items() if attack or site != HOSTILE}
    block = {"class_path": f"fedsynth.algorithms.{algorithm}"}
    with TemporaryDirectory() as folder:
        family, records = federate(build, block, PLAN, sites, attack or "none", RULES[rule], Path(folder) / "run")
    drawn, _ = draw(family, 120)
    return fid(coarse(real), coarse(drawn)), trigger_in(drawn, real), records


def coarse(images: np.ndarray) -> np.ndarray:
    scans = torch.from_numpy(images)[:, :2]
    return torch.nn.functional.adaptive_avg_pool2d(scans, 4).flatten(1).numpy()


def named(records: Records) -> set[str]:
    return {site for record in records for site in record.get("bounded", {})}


@pytest.mark.parametrize("attack", LOUD)
def test_a_mean_is_destroyed_by_one_site_of_five(attack):
    honest, _, _ = trained("", "mean")
    found, _, records = trained(attack, "mean")
    assert found > 20 * honest
    assert named(records) == set()


@pytest.mark.parametrize("attack", LOUD)
@pytest.mark.parametrize("rule", ROBUST)
def test_with_a_rule_the_model_is_as_near_to_real_images_as_that_of_the_honest_four_and_the_site_is_named(rule, attack):
    honest, _, _ = trained("", "mean")
    found, _, records = trained(attack, rule)
    assert found < 1.3 * honest
    assert named(records) == {HOSTILE}
    assert all(HOSTILE in record["bounded"] for record in records)


def test_a_mean_has_the_backdoor():
    assert trained("backdoor", "mean")[1] > 0.2


@pytest.mark.parametrize("rule", ROBUST)
def test_with_a_rule_a_fifth_of_the_backdoor_is_left_at_most(rule):
    honest, _, _ = trained("", "mean")
    found, trigger, records = trained("backdoor", rule)
    assert trigger < 0.2 * trained("backdoor", "mean")[1]
    assert found < 1.3 * honest
    assert named(records) == {HOSTILE}


@pytest.mark.parametrize("rule", ROBUST)
def test_a_site_that_poisons_its_images_alone_and_enlarges_nothing_gets_less_than_with_a_mean(rule):
    assert trained("backdoor x 1", rule)[1] < 0.65 * trained("backdoor x 1", "mean")[1]


@pytest.mark.parametrize("rule", ROBUST)
def test_among_honest_sites_a_rule_costs_little_and_names_nobody(rule):
    mean, _, _ = trained("none", "mean")
    found, _, records = trained("none", rule)
    assert found < 1.15 * mean
    assert named(records) == set()


@pytest.mark.parametrize("algorithm", ["fedprox.FedProx", "fedopt.FedOpt", "scaffold.Scaffold"])
def test_other_algorithms_are_protected_by_the_same_rule(algorithm):
    honest, _, _ = trained("", "mean", algorithm)
    lost, _, _ = trained("scaled x 1000", "mean", algorithm)
    kept, _, records = trained("scaled x 1000", "GeometricMedian", algorithm)
    assert lost > 5 * honest
    assert kept < 1.5 * honest
    assert HOSTILE in named(records)
