"""The audit finds the canaries of a model that has learnt them by heart, and none where a stated epsilon forbids it."""

import numpy as np
import pytest
import torch

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.data.dataset import concatenate
from fedsynth.families.vae import VAE
from fedsynth.hospital import canaries
from fedsynth.measures import Answer, Value
from fedsynth.measures._attack import by_chance, epsilon_of_guesses
from fedsynth.measures.canaries import Canaries
from fedsynth.params import Training
from fedsynth.privacy.dpsgd import DPSGD
from fedsynth.training.alone import tensors
from fedsynth.training.trainer import Trainer
from tests.measures.phantoms import PARAMS, halves, site

N = 48


@pytest.fixture(scope="module")
def marked():
    made = canaries.make(PARAMS.image, N, 7)
    inside = np.random.default_rng(7).random(N) < 0.5
    return made.where(inside), made.where(~inside)


def audit(real, marked, privacy=None, **training):
    """What the audit says of a small VAE that is trained on images with canaries among them."""
    taught = concatenate([halves(real)[1].where(np.arange(len(halves(real)[1])) < 40), marked[0]])
    torch.manual_seed(0)
    known = {k: v for k, v in PARAMS.image.context().items() if k in ("generated", "given", "labels", "size")}
    family = VAE(channels=(16, 32), patch=4, sigma=0.05, **known)
    trainer = Trainer(
        family,
        FedAvg(),
        Training(**({"rounds": 1, "batch": 16, "lr": 4e-3} | training)),
        *tensors(taught, PARAMS.image),
        seed=1,
        privacy=privacy,
        subjects=torch.from_numpy(taught.subjects()),
    )
    trainer.round({name: p.detach().cpu().numpy().copy() for name, p in family.named_parameters()}, 0)
    return Canaries(draws=4).at_site(site(real, real, family=family, canaries=marked)).values


def test_an_over_trained_model_gives_its_canaries_away(real, marked):
    found = audit(real, marked, epochs=200)
    assert found["canaries_auc"].low > 0.8
    assert found["canaries_found"].value > 0.5
    assert found["canaries_epsilon"].value > 1
    assert found["canaries_auc"].n["canaries"] == N


def test_a_model_at_a_stated_epsilon_does_not_and_shows_none_above_it(real, marked):
    found = audit(real, marked, DPSGD(epsilon=2), epochs=10)  # its noise is another in every run
    assert found["canaries_auc"].value < 0.8
    assert found["canaries_found"].value < 0.7
    assert found["canaries_epsilon"].value <= 2


def test_without_canaries_or_weights_nothing_is_said(real, marked):
    for changes in ({}, {"canaries": marked}, {"canaries": tuple(s.where(np.arange(len(s)) < 3) for s in marked)}):
        assert all(v.value is None for v in Canaries().at_site(site(real, real, **changes)).values.values())


def test_so_many_right_guesses_are_as_likely_as_the_mechanism_allows():
    assert by_chance(100, 100, 60, 0.0, 0.0) == pytest.approx(0.0284, abs=1e-4)  # a fair coin
    assert by_chance(10, 10, 10, 1.0, 0.0) == pytest.approx((1 / (1 + np.exp(-1))) ** 10)
    assert by_chance(100, 100, 60, 0.0, 1e-4) > by_chance(100, 100, 60, 0.0, 0.0)


def test_the_bound_of_one_training_is_below_the_true_epsilon_and_rises_with_the_canaries():
    rng, above = np.random.default_rng(0), 0
    for _ in range(200):  # each image's bit is told rightly with the probability that epsilon 1 allows
        inside = rng.random(100) < 0.5
        told = np.where(rng.random(100) < 1 / (1 + np.exp(-1)), inside, ~inside) + 1e-3 * rng.random(100)
        above += epsilon_of_guesses(told[inside], told[~inside], 1e-5) > 1
    assert above <= 10
    perfect = [epsilon_of_guesses(np.ones(n), np.zeros(n), 1e-5) for n in (10, 50)]
    assert 0.5 < perfect[0] < 2 < perfect[1] < 4


def test_sites_count_by_their_images_and_the_largest_epsilon_stands():
    answers = {
        name: Answer(
            {number: Value(v, {"real": n, "canaries": 20}, 0.5, v - 0.1, v + 0.1) for number in Canaries.about}
        )
        for name, v, n in (("one", 0.5, 30), ("other", 0.8, 10))
    }
    found = Canaries().combine(answers, None)
    assert found["canaries_auc"].value == pytest.approx(0.575)
    assert found["canaries_auc"].n["canaries"] == 40
    assert found["canaries_epsilon"].value == 0.8
