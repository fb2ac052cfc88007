"""A generator at the centre learns what it would learn beside the discriminators, from their gradients at its images
alone.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from fedsynth.families.gan import GAN
from fedsynth.networks.optimizer import LeanAdamW
from fedsynth.training.central_generator import Discriminating, Generating, generators
from tests.toys import gan, training

STEPS, SEED = 4, 3
EVEN = [1.0, 1.0]


def images(n: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Class 1 is bright, class 0 dark."""
    y = torch.arange(n) % 2
    noise = torch.rand((n, 1, 8, 8), generator=torch.Generator().manual_seed(n)) * 0.2 - 0.1
    return noise + 0.7 * (2 * y - 1).reshape(-1, 1, 1, 1), y


def centre(weights: dict[str, float], shares=None, **changes) -> Generating:
    plan = training(batch=4, lr=0.01, **changes)
    return Generating(gan(), plan, STEPS, SEED, weights, shares or dict.fromkeys(weights, EVEN))


def site(seed: int = 1, repeats: int = 1, n: int = 12, batch: int = 4, **changes) -> Discriminating:
    return Discriminating(gan(), training(batch=batch, lr=0.01, **changes), STEPS, seed, *images(n), repeats)


def redrawn(family: GAN, sites: int = 1, batch: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """What the centre draws first for the sites' answers, anew and with gradients, and for which classes."""
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(2):  # the first is for the discriminators
        y = torch.multinomial(
            torch.ones((sites, 2), dtype=torch.float64), batch, replacement=True, generator=generator
        ).flatten()
        z = torch.randn((len(y), family.latent), generator=generator)
    return family.draw(z, y, None), y


def twice(drawn: torch.Tensor, y: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """A batch in both places."""
    return torch.stack([drawn, drawn]).detach().numpy(), torch.stack([y, y]).numpy()


def test_the_discriminator_learns_from_the_first_batch_and_answers_at_the_second():
    """Algorithm 1 of Hardy et al. 2019: X^(d) and X^(g)."""
    (images, asked), halves = centre({"a": 1.0}).draw()["a"], [site() for _ in range(3)]
    assert images.shape == (2, 4, 1, 8, 8)
    assert asked.shape == (2, 4)
    assert not np.array_equal(images[0], images[1])
    other = np.random.default_rng(0).uniform(-1, 1, images[0].shape).astype(np.float32)
    for half, (first, second) in zip(halves, [images, (images[0], other), (other, images[1])], strict=True):
        half.step(np.stack([first, second]), asked)
    plain, judged, taught = ([p.detach() for p in half.net.parameters()] for half in halves)
    assert all(torch.equal(p, q) for p, q in zip(plain, judged, strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(plain, taught, strict=True))


def test_the_generator_is_led_by_the_images_that_the_answers_are_about():
    half = centre({"a": 1.0})
    images, _ = half.draw()["a"]
    expected, _ = redrawn(half.family)
    np.testing.assert_array_equal(images[1], expected.detach().numpy())
    np.testing.assert_array_equal(half.drawn.detach().numpy(), images[1])


@pytest.mark.parametrize("clip", [None, 0.01])
def test_with_one_site_a_step_of_the_generator_is_that_of_the_gan_in_one_place_to_the_bit(clip):
    half, other = centre({"a": 7.0}, clip=clip), site()
    half.learn({"a": other.step(*half.draw()["a"])})
    together = gan()
    together.discriminator = other.family.discriminator
    optimizer = LeanAdamW(together.generator.parameters(), lr=0.01, weight_decay=0.0)
    drawn, y = redrawn(together)
    together.fool(drawn, y).backward(inputs=list(together.generator.parameters()))
    if clip:
        torch.nn.utils.clip_grad_norm_(together.generator.parameters(), clip)
    optimizer.step()
    for name, p in generators(together).items():
        assert np.array_equal(half.arrays()[name], p.detach().numpy())


def test_a_site_without_feedback_does_not_count_in_a_step():
    halves = [centre({"a": 3.0, "b": 1.0}), centre({"a": 3.0, "b": 1.0})]
    drawn, _ = [half.draw() for half in halves]
    feedback = site(seed=1).step(*drawn["a"])
    slopes = []
    for half, sent in zip(halves, ({"a": feedback}, {"a": feedback, "b": np.zeros_like(feedback)}), strict=True):
        half.drawn.register_hook(lambda slope: slopes.append(slope.numpy().copy()))
        half.learn(sent)
    np.testing.assert_allclose(slopes[0][:4], feedback)  # as if it were the only site
    np.testing.assert_allclose(slopes[1][:4], 0.75 * feedback, rtol=1e-6)
    assert not slopes[0][4:].any()


def test_the_sites_feedback_by_weight_is_the_gradient_of_their_weighted_mean_loss():
    half, sites = centre({"a": 3.0, "b": 1.0}), {"a": site(seed=1), "b": site(seed=2, n=20)}
    half.learn({name: sites[name].step(*batch) for name, batch in half.draw().items()})
    together = gan()
    drawn, y = redrawn(together, sites=2)
    losses = [sites[name].family.fool(drawn[i : i + 4], y[i : i + 4]) for name, i in (("a", 0), ("b", 4))]
    (0.75 * losses[0] + 0.25 * losses[1]).backward()
    for p, q in zip(half.net.parameters(), together.generator.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-7)
    assert max(float(p.grad.abs().max()) for p in half.net.parameters()) > 1e-4


def test_a_site_that_counts_for_nothing_changes_nothing():
    half, alone = centre({"a": 1.0, "b": 0.0}), centre({"a": 1.0, "b": 0.0})
    batch = half.draw()["a"]
    alone.draw()
    feedback = site().step(*batch)
    half.learn({"a": feedback, "b": np.ones_like(feedback)})
    alone.learn({"a": feedback, "b": -np.ones_like(feedback)})
    assert all(np.array_equal(a, alone.arrays()[name]) for name, a in half.arrays().items())


def test_a_site_trains_its_discriminator_alone_and_answers_by_what_it_has_become():
    other = site()
    before = copy.deepcopy(other.family)
    drawn, y = redrawn(before)
    feedback = other.step(*twice(drawn, y))
    assert feedback.shape == drawn.shape
    assert feedback.dtype == np.float32
    assert all(
        torch.equal(p, q)
        for p, q in zip(other.family.generator.parameters(), before.generator.parameters(), strict=True)
    )
    changed = [
        not torch.equal(p, q) for p, q in zip(other.net.parameters(), before.discriminator.parameters(), strict=True)
    ]
    assert all(changed)

    def slope(family):
        x = drawn.detach().clone().requires_grad_()
        return torch.autograd.grad(family.fool(x, y), x)[0].numpy()

    assert np.array_equal(feedback, slope(other.family))
    assert not np.array_equal(feedback, slope(before))


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_discriminator_takes_so_many_steps_at_each_exchange(repeats):
    other = site(repeats=repeats)
    drawn, y = redrawn(other.family)
    other.step(*twice(drawn, y))
    assert {name: len(of) for name, of in other.losses.items()} == {"discriminator": repeats, "generator": 1}
    assert other.means().keys() == {"generator", "discriminator"}
    assert other.means() == {}  # of the next round nothing is known yet


def test_a_site_is_asked_for_the_classes_that_it_has():
    half = centre({"a": 1.0, "b": 1.0}, {"a": [1.0, 0.0], "b": [1.0, 3.0]})
    asked = [half.draw() for _ in range(50)]
    assert {int(k) for of in asked for k in of["a"][1].flat} == {0}
    assert 0.65 < np.mean([of["b"][1] for of in asked]) < 0.85


def test_the_order_in_which_sites_are_named_changes_no_bit():
    halves = [centre({"a": 2.0, "b": 1.0}), centre({"b": 1.0, "a": 2.0})]
    for half in halves:
        drawn = half.draw()
        half.learn({name: site(seed=ord(name)).step(*drawn[name]) for name in drawn})
    assert all(np.array_equal(a, halves[1].arrays()[name]) for name, a in halves[0].arrays().items())


def test_the_averaged_generator_is_given_at_the_end_of_the_training_alone():
    half, other = centre({"a": 1.0}, ema=0.9, rounds=1), site(rounds=1)
    for step in range(STEPS):
        now = {n: p.detach().numpy().copy() for n, p in generators(half.family).items()}
        assert all(np.array_equal(half.arrays()[n], now[n]) for n in now), step
        half.learn({"a": other.step(*half.draw()["a"])})
    average = dict(half.average.module.named_parameters())
    assert all(np.array_equal(a, average[n].detach().numpy()) for n, a in half.arrays().items())
    assert any(
        not np.array_equal(a, dict(half.family.named_parameters())[n].detach().numpy())
        for n, a in half.arrays().items()
    )


def test_the_learning_rate_falls_over_the_whole_training():
    half, other = centre({"a": 1.0}, rounds=1, lr_end=0.1), site(rounds=1, lr_end=0.1)
    for _ in range(STEPS):
        half.learn({"a": other.step(*half.draw()["a"])})
    last = 0.01 * (0.1 + 0.9 * (1 + np.cos(np.pi * 3 / 4)) / 2)
    assert [h.optimizer.param_groups[0]["lr"] for h in (half, other)] == pytest.approx([last, last])


def test_two_sites_with_one_class_each_teach_the_generator_both():
    plan = {"rounds": 25, "batch": 8, "clip": None, "betas": (0.0, 0.99)}
    half = Generating(
        gan(), training(lr=0.005, **plan), STEPS, SEED, {"a": 1.0, "b": 1.0}, {"a": [1.0, 0.0], "b": [0.0, 1.0]}
    )
    x, y = images(40)
    sites = {}
    for k, name in enumerate("ab"):
        sites[name] = Discriminating(gan(), training(lr=0.005, **plan), STEPS, k, x[y == k], y[y == k])

    def brightness():
        drawn = half.family.sample(torch.arange(40) % 2, generator=torch.Generator().manual_seed(5)).mean((1, 2, 3))
        return [float(drawn[k::2].mean()) for k in (0, 1)]

    dark, bright = brightness()
    assert bright - dark < 0.3
    for _ in range(25 * STEPS):
        drawn = half.draw()
        half.learn({name: sites[name].step(*drawn[name]) for name in sites})
    dark, bright = brightness()
    assert bright - dark > 0.8, (dark, bright)
