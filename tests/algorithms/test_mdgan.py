"""MD-GAN: what it keeps at the centre, and what it refuses before a job starts."""

import pytest

from fedsynth.algorithms.mdgan import MDGAN
from fedsynth.errors import UserError
from fedsynth.families.gan import GAN
from fedsynth.families.vae import VAE
from fedsynth.privacy import PrivacyError
from tests.toys import gan


def test_the_centre_has_the_generator_and_nothing_else():
    family = gan()
    assert set(MDGAN().parameters(family)) == {f"generator.{name}" for name, _ in family.generator.named_parameters()}


def test_a_gan_without_given_channels_and_without_a_mechanism_goes_with_it():
    MDGAN().check(gan(), 3, private=False)


def test_a_family_that_has_no_generator_to_be_taught_from_its_images_is_named():
    vae = VAE(generated=1, given=0, labels=2, size=(8, 8))
    with pytest.raises(UserError, match=r"VAE cannot be parted so \(its players: .*\); take families.gan.GAN"):
        MDGAN().check(vae, 3, private=False)


def test_given_channels_are_refused_because_the_centre_has_none():
    family = GAN(generated=1, given=1, labels=2, size=(8, 8), channels=(4, 8), width=4)
    with pytest.raises(UserError, match=r"no real images for image\.given"):
        MDGAN().check(family, 3, private=False)


def test_channels_that_real_images_may_lack_are_refused():
    family = GAN(generated=2, given=0, labels=2, size=(8, 8), channels=(4, 8), width=4, may_lack=(1,))
    with pytest.raises(UserError, match=r"empty image\.may_lack"):
        MDGAN().check(family, 3, private=False)


def test_differential_privacy_is_refused_with_the_reason_and_another_way():
    with pytest.raises(
        PrivacyError, match=r"would not be counted once it begins again; take .*FedAvg with `shared: generator"
    ):
        MDGAN().check(gan(), 3, private=True)


@pytest.mark.parametrize(
    ("args", "said"),
    [({"weighting": "loss"}, "images, equal"), ({"discriminator_steps": 0}, "at least 1"), ({"call_s": 0}, "above 0")],
)
def test_an_argument_that_makes_no_sense_is_named(args, said):
    with pytest.raises(ValueError, match=said):
        MDGAN(**args)
