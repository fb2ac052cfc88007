"""The critic's loss of WGAN-GP: its distance, its penalty, and that it has neither where there is nothing to tell."""

import pytest
import torch

from fedsynth.families.wgan import WGANGP
from fedsynth.networks.optimizer import LeanAdamW
from fedsynth.privacy.dpsgd import DPSGD
from tests.families.small import federated, striped
from tests.toys import training


def make(**changes):
    torch.manual_seed(0)
    return WGANGP(
        **{
            "generated": 2,
            "given": 0,
            "labels": 3,
            "size": (16, 16),
            "channels": (8, 16),
            "width": 8,
            "shift": 0,
            **changes,
        }
    )


def sloped(family, slope):
    """With a critic that is linear in the image and has this norm of its slope everywhere."""
    family.marks = lambda seen, y: slope * seen.flatten(1).sum(1, keepdim=True) / seen[0].numel() ** 0.5
    return family


torch.manual_seed(7)
X, DRAWN, Y = torch.rand(5, 2, 16, 16) * 2 - 1, torch.rand(5, 2, 16, 16) * 2 - 1, torch.tensor([0, 1, 2, 0, 1])


@pytest.mark.parametrize(("slope", "penalty"), [(1.0, 0.0), (0.0, 1.0), (3.0, 4.0), (-1.0, 0.0)])
def test_the_penalty_is_the_square_of_how_far_the_slope_is_from_1(slope, penalty):
    found = sloped(make(penalty=7.0), slope).tell(X, Y, DRAWN, Y, None)
    distance = slope * (DRAWN - X).flatten(1).sum(1).mean() / (2 * 16 * 16) ** 0.5
    assert float(found - distance) == pytest.approx(7 * penalty, abs=1e-4)


def test_for_drawn_images_that_are_the_real_ones_only_the_penalty_is_left():
    family = make(penalty=10.0)
    real = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(family.judge(real, Y, None).mean(1).sum(), real)
    expected = 10 * (slope.flatten(1).norm(dim=1) - 1).square().mean()
    assert torch.isclose(family.tell(X, Y, X, Y, None), expected, rtol=1e-4)
    assert make(penalty=0.0, shift=0.25).tell(X, Y, X, Y, None) == 0  # moved alike


def test_the_slope_is_taken_between_an_image_and_the_one_drawn_beside_it():
    family, seen = make(), []
    marks = family.marks
    family.marks = lambda images, y: seen.append(images.detach()) or marks(images, y)
    family.tell(X, Y, DRAWN, Y, None)
    far = X - DRAWN
    share = ((seen[0] - DRAWN) * far).sum((1, 2, 3), keepdim=True) / far.square().sum((1, 2, 3), keepdim=True)
    assert torch.allclose(DRAWN + share * far, seen[0], atol=1e-5)  # the first that the critic sees is the mixture
    assert share.min() >= 0
    assert share.max() <= 1
    assert share[:, 0, 0, 0].unique().numel() == 5  # each image its own


def test_the_generator_is_drawn_to_where_the_critic_rises():
    family = sloped(make(), 1.0)
    drawn = DRAWN.clone().requires_grad_()
    (pull,) = torch.autograd.grad(family.fool(drawn, Y, None), drawn)
    assert (pull < 0).all()


def test_the_critic_learns_to_tell_real_images_from_drawn_ones_and_the_penalty_keeps_its_slope_near_1():
    slopes = []
    for penalty in (0.0, 10.0):
        family, (x, y) = make(penalty=penalty), striped(12)
        optimizer = LeanAdamW(family.discriminator.parameters(), lr=1e-3, betas=(0.0, 0.9), weight_decay=0.0)
        for _ in range(80):
            optimizer.zero_grad()
            family.loss("discriminator", x, y, None).backward(inputs=list(family.discriminator.parameters()))
            optimizer.step()
        drawn = family.sample(y)
        mixed = ((x + drawn) / 2).requires_grad_()
        (slope,) = torch.autograd.grad(family.judge(mixed, y, None).mean(1).sum(), mixed)
        slopes.append(float(slope.flatten(1).norm(dim=1).mean()))
        assert family.judge(x, y, None).mean() > family.judge(drawn, y, None).mean() + 1
    assert slopes[1] == pytest.approx(1, abs=0.3)
    assert slopes[0] > 10 * slopes[1]


def test_it_learns_the_classes():
    """Stripes that lie across are class 1's: after a short training the mean image drawn of a class is nearest to that
    class's own.
    """
    family, x, y = federated(
        make(latent=8), rounds=2, epochs=20, lr={"generator": 2e-3, "discriminator": 4e-3}, betas=(0.0, 0.9)
    )
    drawn = family.sample(torch.arange(3).repeat(10), generator=torch.Generator().manual_seed(0))
    for k in range(3):
        far = [(drawn[k::3].mean(0) - x[y == other].mean(0)).square().mean() for other in range(3)]
        assert min(range(3), key=lambda other: far[other]) == k


def test_dp_sgd_takes_the_penalty_image_by_image():
    """Each image's gradient is that of a batch of it alone; the generator sees no real image."""
    family, mechanism = make(), DPSGD(8, unit="image")
    family.draw = lambda z, y, given: DRAWN[: len(y)] * 0.5
    optimizers = {name: torch.optim.SGD(p.parameters(), lr=0.1) for name, p in family.players().items()}
    mechanism.protect(family, optimizers, training(rounds=1), 100, 1)
    assert set(mechanism.noisy) == {"discriminator"}
    mechanism.samples("discriminator", X[:1], Y[:1], None)  # tries all images at once first
    assert mechanism.slow == {"discriminator"}
    torch.manual_seed(1)
    found = mechanism.samples("discriminator", X[:1], Y[:1], None)
    torch.manual_seed(1)
    parameters = list(family.discriminator.parameters())
    alone = torch.autograd.grad(family.loss("discriminator", X[:1], Y[:1], None), parameters)
    for parameter, expected in zip(parameters, alone, strict=True):
        assert torch.allclose(found[parameter][0], expected, atol=1e-6)
