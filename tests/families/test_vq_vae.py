"""Codes, what draws them to images, and the prior that tells one after the other."""

import math

import pytest
import torch
from torch import nn

from fedsynth.families.vq_vae import VQVAE
from fedsynth.privacy.dpsgd import DPSGD
from tests.families.small import federated, striped
from tests.toys import training

torch.manual_seed(7)
X, Y = torch.rand(4, 2, 16, 16) * 2 - 1, torch.tensor([0, 1, 2, 0])


def make(**changes):
    torch.manual_seed(0)
    return VQVAE(
        **{
            "generated": 2,
            "given": 0,
            "labels": 3,
            "size": (16, 16),
            "channels": (8, 16),
            "width": 16,
            "heads": 2,
            **changes,
        }
    )


class Fixed(nn.Module):
    """An encoder that says the same whatever it sees."""

    def __init__(self, h):
        super().__init__()
        self.h = nn.Parameter(h)

    def forward(self, x):
        return self.h


def test_a_code_is_nearest_to_itself_and_each_place_gets_its_nearest():
    family = make()
    codes = torch.randint(0, 64, (4, 16))
    assert torch.equal(family.nearest(family.embed(codes)), codes)
    h = torch.randn(4, 8, 4, 4)
    far = torch.cdist(h.flatten(2).transpose(1, 2), family.autoencoder["book"].weight)
    assert torch.equal(family.nearest(h), far.argmin(2))


def test_an_encoder_that_says_codes_costs_only_the_misfit():
    family = make()
    h = family.embed(torch.randint(0, 64, (4, 16))).detach()
    family.autoencoder["encoder"] = Fixed(h)
    expected = (family.autoencoder["decoder"](h) - X).square().mean()
    assert torch.allclose(family.loss("autoencoder", X, Y, None), expected)


def test_each_term_of_equation_3_moves_its_own_part():
    """The codes by the second alone, towards the encoder's output; the encoder by the first, as if there were no codes,
    and the third.
    """
    family, h = make(beta=0.7), torch.randn(4, 8, 4, 4)
    family.autoencoder["encoder"] = encoder = Fixed(h)
    book = family.autoencoder["book"].weight
    by_encoder, by_book = torch.autograd.grad(family.loss("autoencoder", X, Y, None), [encoder.h, book])
    codes = family.nearest(h)
    e = family.embed(codes).detach().requires_grad_()
    (straight,) = torch.autograd.grad((family.autoencoder["decoder"](e) - X).square().mean(), e)
    assert torch.allclose(by_encoder, straight + 0.7 * 2 * (h - e.detach()) / h.numel(), atol=1e-7)
    used = set(codes.flatten().tolist())
    for k in range(64):
        theirs = h.permute(0, 2, 3, 1).reshape(-1, 8)[codes.flatten() == k]
        assert torch.allclose(
            by_book[k], 2 * (book[k] - theirs).sum(0) / h.numel() if k in used else torch.zeros(8), atol=1e-7
        )
    assert 1 < len(used) < 64


def test_the_prior_looks_at_the_class_and_at_the_codes_before_alone():
    family, codes = make(), torch.randint(0, 64, (1, 15))
    first = family.code_logits(torch.cat([torch.tensor([[64]]), codes], 1), None)
    later = codes.clone()
    later[0, 9] = (later[0, 9] + 1) % 64  # token 10, which place 10 and those after it know
    second = family.code_logits(torch.cat([torch.tensor([[64]]), later], 1), None)
    assert torch.allclose(first[:, :10], second[:, :10], atol=1e-6)
    assert not torch.allclose(first[:, 10:], second[:, 10:], atol=1e-6)
    other = family.code_logits(torch.cat([torch.tensor([[65]]), codes], 1), None)
    assert not torch.allclose(first[:, 0], other[:, 0], atol=1e-6)


def test_a_prior_that_knows_nothing_loses_the_logarithm_of_the_number_of_codes():
    family = make()
    family.code_logits = lambda tokens, given: torch.zeros(*tokens.shape, 64)
    assert float(family.loss("prior", X, Y, None)) == pytest.approx(math.log(64))


def test_the_loss_of_a_view_is_that_of_its_images():
    family, given = make(given=1), torch.rand(4, 1, 16, 16)
    codes, there = family.view(X, given)
    assert codes.shape == (4, 16)
    assert torch.equal(family.loss("prior", codes, Y, there), family.loss("prior", X, Y, given))


def test_a_prior_that_is_sure_draws_the_image_of_its_codes():
    family, codes = make(), torch.randint(0, 64, (4, 16))
    family.code_logits = lambda tokens, given: 1e4 * nn.functional.one_hot(codes[:, : tokens.shape[1]], 64).float()
    with torch.no_grad():
        assert torch.equal(family.sample(Y), family.autoencoder["decoder"](family.embed(codes)))


def test_it_learns_the_classes():
    family, x, y = federated(
        make(codes=32, channels=(16, 32)), rounds=4, epochs=16, lr={"autoencoder": 4e-3, "prior": 4e-3}, clip=1.0
    )
    drawn = family.sample(torch.arange(3).repeat(10), generator=torch.Generator().manual_seed(0))
    for k in range(3):
        far = [float((drawn[k::3].mean(0) - x[y == other].mean(0)).square().mean()) for other in range(3)]
        assert min(far) == far[k]
        assert far[k] < 0.05


def test_dp_sgd_protects_both_phases():
    family, mechanism, (x, y) = make(), DPSGD(8, unit="image"), striped(3)
    optimizers = {name: torch.optim.SGD(p.parameters(), lr=0.1) for name, p in family.players().items()}
    mechanism.protect(family, optimizers, training(rounds=4), 100, 3)
    for number, player in ((0, "autoencoder"), (3, "prior")):
        mechanism.begin(number)
        assert mechanism.noisy[player].noise_multiplier == mechanism.noise > 0
        seen = x if player == "autoencoder" else family.view(x, None)[0]
        found = mechanism.samples(player, seen, y, None)
        for i in range(3):  # neither loss draws anything: each image's gradient is that of a batch of it alone
            alone = torch.autograd.grad(family.loss(player, seen[i : i + 1], y[i : i + 1], None), list(found))
            assert all(
                torch.allclose(found[p][i], one, rtol=1e-3, atol=1e-5) for p, one in zip(found, alone, strict=True)
            )
    assert mechanism.slow == set()
