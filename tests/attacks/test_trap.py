"""Crafted weights: images out of an honest training whose weights the centre has chosen, and what stops that."""

import numpy as np
import pytest
import torch

from fedsynth.hospital.policy import PolicyError
from tests.attacks import trap
from tests.attacks.hospital import hospital, of_study, study, with_model
from tests.attacks.recovery import compare

DP = {"class_path": "fedsynth.privacy.dpsgd.DPSGD", "args": {"epsilon": 8}}
PARAMS = study(size=32)


def model(privacy=None, **changes):
    honest = {"rounds": 2, "epochs": 2, "batch": 8, "lr": 2e-3, "ema": 0.99, "flip": [1]}
    return with_model(PARAMS, "vae.VAE", {"sigma": 0.2, "latent": 16}, privacy, **(honest | changes))


def got(at, asked, force=trap.Force(), imprint=True):
    found = trap.attack(at, asked, imprint, 0, force)
    return compare(found, at.train_images[:, :1], at.public.images[:, :1], flip=True)


@pytest.fixture(scope="module")
def unprotected():
    with hospital(PARAMS) as at:
        yield at


def test_the_crafted_convolutions_hand_on_the_image(unprotected):
    family = model().models["attacked"].family.build(**PARAMS.image.context())
    layout = trap.crafted(family, torch.Generator().manual_seed(0), trap.Force())
    x = torch.from_numpy(np.array(unprotected.train_images[:4]))
    seen = trap.features(family, x, torch.zeros(4, dtype=torch.long)).numpy().astype(float)
    rows = np.concatenate([np.zeros((16, *seen.shape[1:])), seen]).reshape(20, -1)
    assert np.abs(trap.reconstructions(family, layout, {trap.ROWS: rows})[:, 0] - x[:, 0].numpy()).max() < 5e-3


@pytest.mark.parametrize("imprint", [True, False], ids=["imprint", "trap weights"])
def test_an_honest_configuration_without_differential_privacy_gives_images(unprotected, imprint):
    """What docs/threats.md says is left: should this fail, a defence was found, and the page is to say so."""
    found = got(unprotected, model(), imprint=imprint)
    assert found.shown >= 3
    assert found.best < 0.1


def test_numbers_of_ordinary_size_do_it_too(unprotected):
    assert got(unprotected, model(), trap.GENTLE).shown >= 3


@pytest.mark.parametrize("force", [trap.Force(), trap.GENTLE, trap.PATIENT], ids=["strong", "gentle", "patient"])
def test_differential_privacy_leaves_less_than_a_guess(unprotected, force):
    found = got(unprotected, model(DP, batch=64), force)
    assert found.shown == 0
    assert found.best > 1
    assert found.correlation < 0.3


def test_a_hospital_that_requires_differential_privacy_refuses_the_job():
    held = of_study(model())
    held = held.model_copy(update={"privacy": held.privacy.model_copy(update={"require": "dp"})})
    with hospital(PARAMS, held) as at, pytest.raises(PolicyError) as refusal:
        got(at, model())
    assert refusal.value.rule == "privacy.require"
    assert at.sent == []
