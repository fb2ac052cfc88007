"""Identities of the rectified flow."""

import pytest
import torch

from fedsynth.families.diffusion import Diffusion


def make(**changes):
    torch.manual_seed(0)
    family = Diffusion(generated=2, given=0, labels=3, size=(8, 8), channels=(16, 32), **changes)
    for p in family.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.1)  # MONAI begins some layers with zeros, behind which nothing is seen
    return family


def test_the_path_runs_from_the_image_to_noise():
    schedule, x, noise = make().schedule(), torch.randn(2, 2, 8, 8), torch.randn(2, 2, 8, 8)
    assert torch.equal(schedule.add_noise(x, noise, torch.tensor([0, 0])), x)
    assert torch.equal(schedule.add_noise(x, noise, torch.tensor([1000, 1000])), noise)
    half = schedule.add_noise(x, noise, torch.tensor([500.0, 250.0]))
    assert torch.allclose(half[0], (x[0] + noise[0]) / 2)
    assert torch.allclose(half[1], 0.75 * x[1] + 0.25 * noise[1])


def test_steps_along_the_true_velocity_end_at_the_image_however_many():
    x = torch.rand(3, 2, 8, 8) * 2 - 1
    noise = torch.randn((3, 2, 8, 8), generator=torch.Generator().manual_seed(5))
    for steps in (1, 3, 16):
        family = make(steps=steps)
        family.guided = lambda *_: x - noise
        assert torch.allclose(
            family.sample(torch.zeros(3, dtype=torch.long), generator=torch.Generator().manual_seed(5)), x, atol=1e-5
        )


def test_guidance_1_is_the_model_itself_and_0_is_any_class():
    y, x, t = torch.tensor([0, 1, 2]), torch.randn(3, 2, 8, 8), torch.full((3,), 400.0)
    family = make(guidance=1)
    with torch.no_grad():
        plain, anyones = family.predict(x, t, y, None), family.predict(x, t, torch.full_like(y, 3), None)
        assert not torch.allclose(plain, anyones)
        assert torch.equal(family.guided(x, 400.0, y, None), plain)
        family.guidance = 1 + 1e-9
        assert torch.allclose(family.guided(x, 400.0, y, None), plain, atol=1e-5)
        family.guidance = 0
        assert torch.allclose(family.guided(x, 400.0, y, None), anyones, atol=1e-5)


def test_a_new_network_loses_the_square_of_the_velocity():
    torch.manual_seed(0)
    family = Diffusion(generated=1, given=0, labels=2, size=(16, 16), channels=(16, 32))
    loss = family.loss("unet", torch.zeros(64, 1, 16, 16), torch.zeros(64, dtype=torch.long), None)
    assert abs(float(loss.detach()) - 1) < 0.05  # its last layer is 0, and so E ||0 - (x - noise)||^2 / n = 1 for x = 0


@pytest.mark.parametrize(("solver", "evaluations"), [("euler", 4), ("heun", 7)])
def test_the_solver_takes_its_order_and_number_of_evaluations(solver, evaluations):
    """Along the velocity v = x an image grows by e; four steps of Euler give (1 + h)^4, Heun's (1 + h + h^2 / 2)^3."""
    family, asked = make(steps=4, solver=solver, guidance=1.0), []
    family.bounded = False

    def velocity(x, time, y, given):
        asked.append(time)
        return x

    family.guided = velocity
    noise = torch.randn((2, family.generated, *family.size), generator=torch.Generator().manual_seed(1))
    found = family.sample(torch.zeros(2, dtype=torch.long), generator=torch.Generator().manual_seed(1))
    h = 0.25
    grown = (1 + h) ** 4 if solver == "euler" else (1 + h + h**2 / 2) ** 3 * (1 + h)
    assert torch.allclose(found, noise * grown, rtol=1e-3)
    assert len(asked) == evaluations


def test_an_unknown_solver_is_refused():
    with pytest.raises(ValueError, match="euler or heun"):
        make(solver="rk4")


def shifted(t, shift):
    """Esser et al. 2024, equation 23, with sqrt(m / n) = shift."""
    return shift * t / (1 + (shift - 1) * t)


@pytest.mark.parametrize(("base", "shift"), [((8, 8), 1.0), ((4, 4), 2.0), ((2, 2), 4.0), ((16, 16), 0.5)])
def test_times_are_shifted_by_the_root_of_the_ratio_of_pixels(base, shift):
    other, family, x = make(), make(base=base, steps=5), torch.zeros(20000, 2, 8, 8)
    torch.manual_seed(1)
    found = family.schedule().sample_timesteps(x) / 1000
    torch.manual_seed(1)
    plain = other.schedule().sample_timesteps(x) / 1000
    assert torch.allclose(found, shifted(plain, shift), atol=2e-3)
    assert float(found.median()) == pytest.approx(shift / (1 + shift), abs=0.02)  # that of t = 1/2
    times = [1000 * shifted(1 - i / 5, shift) for i in range(5)]
    assert family.schedule().timesteps.tolist() == pytest.approx(times, abs=1.5)


def test_the_shift_of_a_volume_is_the_square_root_too():
    family = Diffusion(generated=1, given=0, labels=2, size=(8, 8, 8), channels=(16, 32), base=(4, 4, 4), steps=2)
    torch.manual_seed(1)
    found = family.schedule().sample_timesteps(torch.zeros(20000, 1, 8, 8, 8)) / 1000
    shift = 8**0.5
    assert float(found.median()) == pytest.approx(shift / (1 + shift), abs=0.02)
    assert family.schedule().timesteps.tolist() == pytest.approx([1000, 1000 * shifted(0.5, shift)], abs=1.5)


def test_a_shifted_sampler_follows_the_true_velocity_to_the_image():
    x = torch.rand(3, 2, 8, 8) * 2 - 1
    noise = torch.randn((3, 2, 8, 8), generator=torch.Generator().manual_seed(5))
    family = make(base=(2, 2), steps=7)
    family.guided = lambda *_: x - noise
    drawn = family.sample(torch.zeros(3, dtype=torch.long), generator=torch.Generator().manual_seed(5))
    assert torch.allclose(drawn, x, atol=1e-5)


def test_a_base_of_other_axes_is_refused():
    with pytest.raises(ValueError, match="base must have 2 axes"):
        make(base=(8, 8, 8))
