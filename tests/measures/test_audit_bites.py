"""The gates of params.yaml fail models that have learnt 20 images by heart and pass one of the same kind that has not:
real trainings, at 16 pixels."""

import pytest
import torch

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.data.dataset import synthetic
from fedsynth.families.diffusion import Diffusion
from fedsynth.families.gan import GAN
from fedsynth.families.vae import VAE
from fedsynth.measures.copies import Copies
from fedsynth.measures.membership import Membership
from fedsynth.params import Training
from fedsynth.stages.sample import assemble
from fedsynth.training.trainer import Trainer
from fedsynth.worth.gates import Known, evaluate, parse
from tests.measures.phantoms import PARAMS, halves, phantoms, site

PRIVACY = ["copies_pixel <= 0", "copies_feature <= 0", "membership_distance_auc <= 0.6", "membership_loss_auc <= 0.6"]


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return phantoms(tmp_path_factory.mktemp("real"), 200)


def audit(real, family, of_train=None, **training):
    """All numbers of the audit of a family that is trained on the first `of_train` training images of a site."""
    _, train = halves(real, of_train)
    torch.manual_seed(0)
    family = family(
        **{k: v for k, v in PARAMS.image.context().items() if k in ("generated", "given", "labels", "size")}
    )
    settings = Training(**({"rounds": 1, "batch": 20} | training))
    x, y = torch.tensor(train.channels(PARAMS.image, PARAMS.image.generated)), torch.tensor(train.labels(PARAMS.image))
    trainer = Trainer(family, FedAvg(), settings, x, y, None, seed=1)
    trainer.round({name: p.detach().cpu().numpy().copy() for name, p in family.named_parameters()}, 0)
    seen = site(real, drawn(family), train=train, family=family, flip=tuple(settings.flip))
    return Copies().at_site(seen).values | Membership(draws=8).at_site(seen).values


def failed(found, end="value"):
    """The names whose gates do not hold, asked of the values or of an `end` of their intervals."""
    numbers, floors = (
        {f"{name}{at}": getattr(v, of) for name, v in found.items() for at in ("", "@north")} for of in (end, "floor")
    )
    return {
        parse(gate["gate"]).name
        for gate in evaluate({"by": "point", "require": PRIVACY}, Known(numbers, floors))["gates"]
        if not gate["held"]
    }


def drawn(family, n=100):
    """A synthetic set of n images, classes in turn."""
    places = torch.arange(n) % len(PARAMS.image.labels)
    images = assemble(
        PARAMS.image, family.sample(places, None, torch.Generator().manual_seed(1)).clamp(-1, 1).cpu().numpy(), None
    )
    return synthetic(PARAMS, images, places.numpy(), "model", "1")


def vae(**known):
    return VAE(channels=(32, 64), patch=4, sigma=0.05, **known)


def diffusion(**known):
    return Diffusion(channels=(32, 64), guidance=1, steps=12, **known)


def gan(**known):
    return GAN(width=32, r1=0, shift=0, **known)


def test_a_vae_that_knows_20_images_by_heart_fails_by_copies_distance_and_loss(real):
    found = audit(real, vae, of_train=20, epochs=800, lr=4e-3, ema=0.98)
    assert failed(found, "low") >= {"copies_pixel", "membership_distance_auc", "membership_loss_auc"}
    assert found["nearest_ratio_pixel"].high < found["nearest_ratio_pixel"].floor


def test_a_diffusion_that_knows_20_images_by_heart_fails_by_distance_and_loss(real):
    found = audit(real, diffusion, of_train=20, epochs=300, lr=4e-3, ema=0.98)
    assert "membership_distance_auc" in failed(found)
    assert "membership_loss_auc" in failed(found, "low")


def test_a_gan_without_its_brakes_fails_by_loss(real):
    found = audit(real, gan, of_train=20, epochs=250, lr=5e-4, betas=(0.0, 0.99), clip=None, ema=0.98)
    assert "membership_loss_auc" in failed(found, "low")


@pytest.mark.parametrize("family", [VAE, diffusion])
def test_a_model_of_more_images_and_fewer_epochs_passes(tmp_path, family):
    attacks = {"membership_distance_auc": [], "membership_loss_auc": []}
    for seed in (1, 2, 3):  # one set alone may be off by chance
        # after 8 epochs the attack by losses at several times found a diffusion at .61, .57 and .48
        found = audit(
            phantoms(tmp_path / str(seed), 200, seed), family, epochs=5, batch=16, lr=2e-3, ema=0.95, flip=[1]
        )
        assert failed(found) == set()
        assert found["nearest_ratio_pixel"].low > found["nearest_ratio_pixel"].floor
        for name, values in attacks.items():
            values.append(found[name].value)
    assert all(sum(values) / 3 < 0.57 for values in attacks.values())
