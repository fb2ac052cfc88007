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
