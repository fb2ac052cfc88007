"""What VAE-GAN is made of: a VAE where the discriminator has no say, and whose loss reaches whom."""

import pytest
import torch

from fedsynth.families.vae import VAE
from fedsynth.families.vae_gan import VAEGAN
from fedsynth.privacy.dpsgd import DPSGD
from tests.families.small import federated
from tests.toys import training

SMALL = {"generated": 2, "given": 0, "labels": 3, "size": (16, 16), "channels": (8, 16), "latent": 4}
torch.manual_seed(7)
X, Y = torch.rand(6, 2, 16, 16) * 2 - 1, torch.tensor([0, 1, 2, 0, 1, 2])


def make(**changes):
    torch.manual_seed(0)
    return VAEGAN(**SMALL, width=8, **{"shift": 0, **changes})


def loss(family, player="autoencoder"):
    torch.manual_seed(1)
    return family.loss(player, X, Y, None)


def test_without_a_say_of_the_discriminator_it_is_the_vae():
    family, vae = make(likeness=0.0, fooling=0.0, sigma=0.3), VAE(**SMALL, sigma=0.3)
    vae.autoencoder["encoder"].load_state_dict(family.encoder.state_dict())
    vae.autoencoder["decoder"].load_state_dict(family.generator.state_dict())
    assert torch.equal(loss(family), loss(vae))


def test_images_that_are_alike_have_no_misfit_in_the_discriminators_layer_and_shift_together():
    family = make(shift=0.25)
    assert family.unlike(X, X, None) == 0
    assert family.unlike(X, X.flip(3), None) > 0.01


def test_the_term_that_fools_the_discriminator_does_not_reach_the_encoder():
    """Section 3.2: the encoder learns from the prior and from the likeness alone."""
    slopes = {}
    for fooling in (0.0, 5.0):
        family = make(fooling=fooling)
        found = torch.autograd.grad(loss(family), [*family.encoder.parameters(), *family.generator.parameters()])
        slopes[fooling] = found
    n = len(list(make().encoder.parameters()))
    pairs = list(zip(slopes[0.0], slopes[5.0], strict=True))
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in pairs[:n])
    assert any((a - b).abs().max() > 1e-4 for a, b in pairs[n:])


def test_the_likeness_reaches_the_encoder():
    with_it, without = (
        torch.autograd.grad(loss(f := make(likeness=k, fooling=0.0)), list(f.encoder.parameters())) for k in (5.0, 0.0)
    )
    assert any((a - b).abs().max() > 1e-4 for a, b in zip(with_it, without, strict=True))


def test_half_of_what_is_judged_comes_from_the_prior():
    z = torch.full((2000, 4), 9.0, requires_grad=True)
    mixed = make()._half_prior(z)
    assert not mixed.requires_grad
    assert float((mixed == 9).all(1).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_every_player_is_private_since_the_autoencoder_sees_images():
    family, mechanism = make(), DPSGD(8, unit="image")
    optimizers = {name: torch.optim.SGD(p.parameters(), lr=0.1) for name, p in family.players().items()}
    mechanism.protect(family, optimizers, training(rounds=1), 100, 1)
    assert set(mechanism.noisy) == {"autoencoder", "discriminator"}
    for player, net in family.players().items():
        found = mechanism.samples(player, X[:2], Y[:2], None)
        assert set(found) == set(net.parameters())
        assert all(len(slopes) == 2 for slopes in found.values())


def test_it_learns_the_classes():
    family, x, y = federated(make(), rounds=2, epochs=16, lr={"autoencoder": 4e-3, "discriminator": 1e-3})
    drawn = family.sample(torch.arange(3).repeat(10), generator=torch.Generator().manual_seed(0))
    for k in range(3):
        far = [float((drawn[k::3].mean(0) - x[y == other].mean(0)).square().mean()) for other in range(3)]
        assert min(far) == far[k]
        assert far[k] < 0.1
