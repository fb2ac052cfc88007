"""Identities of denoising diffusion and of its samplers."""

import pytest
import torch

from fedsynth.families.ddpm import DDPM


def make(**changes):
    torch.manual_seed(0)
    return DDPM(generated=2, given=0, labels=3, size=(8, 8), channels=(16, 32), **{"steps": 10, **changes})


def knowing(family, x):
    """The family with the network that knows the image: what it tells of x_t is what the loss asks of it."""

    def told(x_t, now, *_):
        a = family.schedule().alphas_cumprod[now]
        noise = (x_t - a.sqrt() * x) / (1 - a).sqrt()
        return noise if family.target == "epsilon" else a.sqrt() * noise - (1 - a).sqrt() * x

    family.guided = told
    return family


@pytest.mark.parametrize("target", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [1, 4, 20])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_network_that_knows_the_image_leads_to_it_whatever_the_sampler(target, steps, eta):
    x = torch.rand(3, 2, 8, 8) * 1.8 - 0.9
    family = knowing(make(target=target, steps=steps, eta=eta), x)
    drawn = family.sample(torch.zeros(3, dtype=torch.long), generator=torch.Generator().manual_seed(5))
    assert torch.allclose(drawn, x, atol=2e-3)


def test_each_step_ends_at_the_noise_level_where_the_next_begins():
    """The network that knows the image sees its noise unchanged at every step of DDIM; a gap between the levels would
    change it.
    """
    x, family, seen = torch.rand(3, 2, 8, 8) * 1.8 - 0.9, make(steps=20, target="epsilon"), []
    knowing(family, x)
    told = family.guided
    family.guided = lambda *args: seen.append(told(*args)) or seen[-1]
    family.sample(torch.zeros(3, dtype=torch.long), generator=torch.Generator().manual_seed(5))
    first = torch.randn((3, 2, 8, 8), generator=torch.Generator().manual_seed(5))
    assert len(seen) == 20
    for later in seen:
        assert torch.allclose(later, first, atol=0.02)


def test_eta_1_has_the_variance_of_ddpms_posterior():
    """In strides of one: beta_t (1 - a_{t-1}) / (1 - a_t), Ho et al. 2020, equation 7."""
    scheduler = make(times=100, steps=100).schedule()
    for t in (99, 40, 1):
        a, before = scheduler.alphas_cumprod[t], scheduler.alphas_cumprod[t - 1]
        assert torch.allclose(scheduler._get_variance(t, t - 1), scheduler.betas[t] * (1 - before) / (1 - a), rtol=1e-3)


@pytest.mark.parametrize("target", ["epsilon", "v_prediction"])
def test_eta_1_samples_from_the_posterior_given_the_clipped_image(target):
    """Ho et al. 2020, algorithm 2 with x_0 clipped: the mean of equation 7, plus noise of its variance.

    The network knows no image, so that most of what it predicts lies far out of [-1, 1].
    """
    family = make(times=50, steps=50, eta=1.0, target=target)
    family.guided = lambda x, now, *_: torch.sin(3 * x + now)
    found = family.sample(torch.zeros(2, dtype=torch.long), generator=torch.Generator().manual_seed(5))
    generator, scheduler = torch.Generator().manual_seed(5), family.schedule()
    x, clipped = torch.randn((2, 2, 8, 8), generator=generator), 0.0
    for t in range(49, -1, -1):
        a, beta = scheduler.alphas_cumprod[t], scheduler.betas[t]
        before = scheduler.alphas_cumprod[t - 1] if t else torch.tensor(1.0)
        told = torch.sin(3 * x + t)
        image = (x - (1 - a).sqrt() * told) / a.sqrt() if target == "epsilon" else a.sqrt() * x - (1 - a).sqrt() * told
        clipped += float((image.abs() > 1).float().mean()) / 50
        image = image.clamp(-1, 1)
        mean = before.sqrt() * beta / (1 - a) * image + (1 - beta).sqrt() * (1 - before) / (1 - a) * x
        x = mean + (beta * (1 - before) / (1 - a)).sqrt() * torch.randn(x.shape, generator=generator)
    assert clipped > 0.1
    assert torch.allclose(found, x.clamp(-1, 1), atol=1e-3)


def test_eta_0_adds_no_noise_and_eta_1_does():
    y = torch.tensor([0, 1, 2])
    for eta, same in ((0.0, True), (1.0, False)):
        family = make(eta=eta, guidance=1)
        family.guided = lambda x, *_: torch.zeros_like(x)
        generator = torch.Generator().manual_seed(3)
        family.sample(y, generator=generator)
        once = torch.Generator().manual_seed(3)
        torch.randn((3, 2, 8, 8), generator=once)
        assert torch.equal(generator.get_state(), once.get_state()) is same


@pytest.mark.parametrize("target", ["epsilon", "v_prediction"])
def test_the_loss_is_what_the_paper_says(target):
    """A network that tells 0 loses E noise^2 = 1, or E (sqrt(a) noise - sqrt(1 - a) x)^2 = E a for x = 0."""
    family = make(target=target)
    torch.manual_seed(1)
    x = torch.zeros(512, 2, 8, 8)
    loss = float(family.loss("unet", x, torch.zeros(512, dtype=torch.long), None).detach())
    expected = 1.0 if target == "epsilon" else float(family.schedule().alphas_cumprod.mean())
    assert loss == pytest.approx(expected, abs=0.05)


def test_noise_is_mixed_in_as_equation_4_says():
    scheduler, x, noise = make().schedule(), torch.randn(2, 2, 8, 8), torch.randn(2, 2, 8, 8)
    a = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, 1000), 0)[300]
    assert torch.allclose(
        scheduler.add_noise(x, noise, torch.tensor([300, 300])), a.sqrt() * x + (1 - a).sqrt() * noise, atol=1e-5
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"steps": 12}, "take 10"), ({"target": "x0"}, "epsilon"), ({"eta": 1.5}, "from 0"), ({"beta": "none"}, "none")],
)
def test_arguments_that_cannot_be_are_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        make(**changes)


def test_any_class_is_forgotten_at_the_rate_of_drop():
    y = make(drop=0.3).forget(torch.zeros(20000, dtype=torch.long))
    assert float((y == 3).float().mean()) == pytest.approx(0.3, abs=0.02)
    assert set(y.tolist()) == {0, 3}
