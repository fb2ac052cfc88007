"""What keeps the discriminator honest."""

import torch

from fedsynth.families.gan import GAN
from fedsynth.networks.optimizer import LeanAdamW
from tests.families.small import striped


def make(**changes):
    torch.manual_seed(0)
    return GAN(generated=2, given=0, labels=3, size=(16, 16), channels=(8, 16), width=8, **changes)


def test_a_shift_moves_the_channels_of_an_image_together_and_invents_no_value():
    x = torch.rand(6, 1, 16, 16).expand(6, 2, 16, 16)
    moved = make(shift=0.25)._shifted(x)
    assert torch.equal(moved[:, 0], moved[:, 1])
    assert not torch.equal(moved, x)
    assert set(moved.flatten().tolist()) <= set(x.flatten().tolist())


def test_no_shift_leaves_the_image_as_it_is():
    x = torch.rand(2, 2, 16, 16)
    assert torch.equal(make(shift=0)._shifted(x), x)


def test_the_generator_is_pulled_by_the_output_of_the_class_asked_for():
    family, x = make(shift=0), torch.rand(3, 2, 16, 16)
    marks = family.discriminator(x)[-1]
    judged = family.judge(x, torch.tensor([2, 0, 1]), None)
    for i, k in enumerate([2, 0, 1]):
        assert torch.equal(judged[i], marks[i, k].flatten())


def test_the_penalty_is_the_squared_slope_at_real_images():
    x, y = torch.rand(3, 2, 16, 16), torch.tensor([0, 1, 2])
    losses = []
    for r1 in (0.0, 2.0):
        family = make(shift=0, r1=r1, r1_every=1)
        with torch.no_grad():
            for p in family.discriminator.parameters():
                p.mul_(5)  # away from the slopes near 0 of a new network
        torch.manual_seed(1)
        losses.append(family.loss("discriminator", x, y, None))
    real = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(family.judge(real, y, None).mean(1).sum(), real)
    assert torch.isclose(losses[1] - losses[0], slope.square().sum() / 3, rtol=1e-3)


def test_the_hinge_ends_at_1_and_leaves_the_generator_a_slope_everywhere():
    """Lim & Ye 2017, equations 3 and 4: relu(1 - D(x)) + relu(1 + D(G(z))), and -D(G(z))."""
    marks = torch.tensor([[-2.0, 0.0], [0.5, 3.0]])
    family = make(criterion="hinge")
    assert float(family.adversarial(marks, True, True)) == (3 + 1 + 0.5 + 0) / 4
    assert float(family.adversarial(marks, False, True)) == (0 + 1 + 1.5 + 4) / 4
    assert float(family.adversarial(marks, True, False)) == -(-2 + 0 + 0.5 + 3) / 4


def test_a_discriminator_that_is_sure_has_nothing_to_learn_from_the_hinge():
    family = make(criterion="hinge", r1=0.0)
    family.judge = lambda x, y, given: (x.mean((1, 2, 3)).reshape(-1, 1) > 0).float() * 4 - 2
    x, y = torch.rand(3, 2, 16, 16), torch.tensor([0, 1, 2])
    assert float(family.tell(x, y, -x, y, None)) == 0


def test_with_the_hinge_the_discriminator_learns_to_tell():
    family, (x, y) = make(criterion="hinge", shift=0), striped(12)
    optimizer = LeanAdamW(family.discriminator.parameters(), lr=2e-3)
    for _ in range(30):
        optimizer.zero_grad()
        loss = family.loss("discriminator", x, y, None)
        loss.backward(inputs=list(family.discriminator.parameters()))
        optimizer.step()
    assert float(loss.detach()) < 0.5  # 2 where it tells nothing
