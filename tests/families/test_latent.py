"""Latent diffusion: two phases, a scale that makes the latents of unit deviation, and a sampler that ends in the
decoder.
"""

import pytest
import torch

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.families.latent import Latent
from fedsynth.networks.blocks import from_patches
from fedsynth.networks.optimizer import LeanAdamW
from fedsynth.privacy.dpsgd import DPSGD
from fedsynth.training.weights import build_family
from tests.families.small import federated, striped
from tests.toys import training

DDPM = {"class_path": "fedsynth.families.ddpm.DDPM", "args": {"channels": [16, 32], "steps": 4}}
FLOW = {"class_path": "fedsynth.families.diffusion.Diffusion", "args": {"channels": [16, 32], "steps": 4}}
Y = torch.tensor([0, 1, 2, 0])


def make(diffusion=FLOW, given=0, **changes):
    torch.manual_seed(0)
    return Latent(
        **{"generated": 2, "given": given, "labels": 3, "size": (16, 16), "channels": (16, 32), **changes},
        diffusion=diffusion,
    )


def test_the_scale_is_learned_to_be_the_deviation_of_the_latents_and_takes_nothing_else_along():
    family = make()
    mean = 3 + 7 * torch.randn(50, 4, 4, 4)
    loss = family._learn_scale(mean)
    assert float(loss.detach()) == 0
    assert family.autoencoder.scale.grad is None
    optimizer = LeanAdamW([family.autoencoder.scale], lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        family._learn_scale(mean).backward()
        optimizer.step()
    assert float(family.deviation.detach()) == pytest.approx(float(mean.std()), rel=0.1)
    x = torch.rand(4, 2, 16, 16)
    encoder = list(family.autoencoder.encoder.parameters())
    both = []
    for scale in (0.0, 1.0):  # whatever the scale, the autoencoder's own gradient is the same
        with torch.no_grad():
            family.autoencoder.scale.fill_(scale)
        torch.manual_seed(1)
        both.append(torch.autograd.grad(family.loss("autoencoder", x, Y, None), encoder))
    assert all(torch.equal(a, b) for a, b in zip(*both, strict=True))


def test_the_mean_of_two_sites_scales_is_the_geometric_mean_of_their_deviations():
    family, found = make(), []
    for scale in (0.1, 0.5, 0.3):
        with torch.no_grad():
            family.autoencoder.scale.fill_(scale)
        found.append(float(family.deviation.detach()))
    assert found[2] == pytest.approx((found[0] * found[1]) ** 0.5, rel=1e-5)


def test_a_view_is_the_encoders_means_of_unit_deviation_and_the_loss_of_it_that_of_the_images():
    family, x = make(given=1), torch.rand(4, 2, 16, 16) * 2 - 1
    given = torch.rand(4, 1, 16, 16)
    with torch.no_grad():
        family.autoencoder.scale.fill_(0.2)
    z, there = family.view(x, given)
    means, _ = family.autoencoder.encode(torch.nn.functional.pixel_unshuffle(x, 2))
    assert torch.allclose(z * family.deviation, means, atol=1e-6)
    assert z.shape == (4, 4, 4, 4)
    assert torch.equal(from_patches(there, 4), given)  # nothing of it is lost
    losses = []
    for seen in ((x, Y, given), (z, Y, there)):
        torch.manual_seed(1)
        losses.append(family.loss("unet", *seen))
    assert torch.equal(*losses)


@pytest.mark.parametrize("block", [FLOW, DDPM], ids=["flow", "ddpm"])
def test_diffusion_that_knows_the_latents_leads_to_their_image_however_far_out_they_lie(block):
    family, z = make(block), 4 * torch.randn(4, 4, 4, 4)
    with torch.no_grad():
        family.autoencoder.scale.fill_(0.3)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(5))

    def told(x_t, now, *_):
        if block is FLOW:
            return z - noise
        a = family.prior.schedule().alphas_cumprod[int(now)]
        return (x_t - a.sqrt() * z) / (1 - a).sqrt()

    family.prior.guided = told
    with torch.no_grad():
        expected = family.decode(z * family.deviation)
    assert torch.allclose(family.sample(Y, generator=torch.Generator().manual_seed(5)), expected, atol=5e-3)


def test_a_posterior_that_is_the_prior_costs_nothing():
    family, x = make(sigma=10.0), torch.rand(4, 2, 16, 16)
    family.autoencoder.encode = lambda x: (torch.zeros(4, 4, 4, 4), torch.ones(4, 4, 4, 4))
    family.decode = lambda z: x
    assert abs(float(family.loss("autoencoder", x, Y, None).detach())) < 1e-6


def test_it_learns_and_leaves_latents_of_unit_deviation_and_an_autoencoder_that_rests_in_the_second_phase():
    options = {"epochs": 8, "lr": {"autoencoder": 4e-3, "unet": 4e-3}, "clip": 1.0, "ema": 0.9, "flip": []}
    family = make(share=0.5)
    first, x, y = federated(family, rounds=4, **options)
    drawn = first.sample(torch.arange(3).repeat(10), generator=torch.Generator().manual_seed(0))
    for k in range(3):
        far = [float((drawn[k::3].mean(0) - x[y == other].mean(0)).square().mean()) for other in range(3)]
        assert min(far) == far[k]
        assert far[k] < 0.1
    z, _ = family.view(x, None)
    assert float(z.std()) == pytest.approx(1, abs=0.2)
    with torch.no_grad():
        assert float((family.decode(z * family.deviation) - x).square().mean()) < 0.02  # an even image is off by 0.15


def test_the_model_file_builds_it_again():
    family = make(DDPM)
    arrays = {n: p.detach().numpy() for n, p in family.named_parameters()}
    image = {"size": [16, 16], "channels": {"t1": "image", "t2": "image"}, "labels": ["a", "b", "c"]}
    block = {"class_path": "fedsynth.families.latent.Latent", "args": {"channels": [16, 32], "diffusion": DDPM}}
    again = build_family({"name": "latent", "family": block, "image": image}, arrays)
    one, other = (f.sample(Y, generator=torch.Generator().manual_seed(1)) for f in (family, again))
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"size": (20, 20)}, r"latents of image.size \[20, 20\] have the size \[5, 5\].*multiple of 2"),
     ({"size": (18, 18)}, "multiple of 4"),
     ({"patch": 1, "channels": (16,)}, "smaller"),
     ({"share": 1.0}, "share")],
)  # fmt: skip
def test_what_cannot_be_is_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        make(**changes)


def test_an_embedding_of_the_site_stays_there():
    family = make({"class_path": FLOW["class_path"], "args": {**FLOW["args"], "site": 3}})
    travel = FedAvg().parameters(family)
    assert set(dict(family.named_parameters())) - set(travel) == {"prior.unet.site"}


def test_the_second_phase_is_diffusion_and_no_other_family():
    with pytest.raises(ValueError, match="must be"):
        make({"class_path": "fedsynth.families.vae.VAE"})


def test_dp_sgd_protects_both_phases_with_the_noise_of_the_one_player_that_steps():
    family, mechanism, (x, y) = make(), DPSGD(8, unit="image"), striped(6)
    optimizers = {name: torch.optim.SGD(p.parameters(), lr=0.1) for name, p in family.players().items()}
    mechanism.protect(family, optimizers, training(rounds=5), 100, 3)
    for number, player in ((0, "autoencoder"), (4, "unet")):
        mechanism.begin(number)
        assert mechanism.noisy[player].noise_multiplier == mechanism.noise > 0
        seen = x if player == "autoencoder" else family.view(x, None)[0]
        found = mechanism.samples(player, seen, y, None)
        assert set(found) == set(family.players()[player].parameters())
        assert any((slopes.flatten(1).norm(dim=1) > 0).all() for slopes in found.values())
    assert mechanism.slow == set()
