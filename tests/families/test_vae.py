"""Terms of the bound."""

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from fedsynth.families.vae import VAE, divergence
from fedsynth.params import Block, Image


def make(**changes):
    torch.manual_seed(0)
    return VAE(generated=2, given=0, labels=3, size=(16, 16), latent=4, channels=(8, 16), **changes)


def test_a_posterior_that_is_the_prior_costs_nothing():
    family, x, y = make(sigma=10.0), torch.rand(4, 2, 16, 16), torch.tensor([0, 1, 2, 0])
    family.encode = lambda x, *_: (torch.zeros(len(x), 4), torch.zeros(len(x), 4))
    torch.manual_seed(1)
    loss = family.loss("autoencoder", x, y, None)
    torch.manual_seed(1)
    assert torch.isclose(loss, F.mse_loss(family.decode(torch.randn(4, 4), y, None), x))


def test_the_divergence_is_that_of_two_normal_distributions():
    family, x, y = make(sigma=0.5), torch.rand(4, 2, 16, 16), torch.tensor([0, 1, 2, 0])
    mean, log_variance = torch.randn(4, 4), torch.randn(4, 4)
    family.encode = lambda *_: (mean, log_variance)
    family.decode = lambda *_: x
    kl = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1).mean()
    assert torch.isclose(family.loss("autoencoder", x, y, None), 2 * 0.5**2 * kl / x[0].numel())


def test_texture_is_noise_about_the_mean():
    y = torch.zeros(200, dtype=torch.long)
    smooth, rough = make(), make(texture=0.1)
    rough.load_state_dict(smooth.state_dict())
    difference = rough.sample(y, generator=torch.Generator().manual_seed(1)) - smooth.sample(
        y, generator=torch.Generator().manual_seed(1)
    )
    assert abs(float(difference.std()) - 0.1) < 0.005


def test_texture_leaves_masks_alone():
    y = torch.zeros(20, dtype=torch.long)
    smooth, rough = make(), make(texture=0.3, mask_channels=(1,))
    rough.load_state_dict(smooth.state_dict())
    a, b = (family.sample(y, generator=torch.Generator().manual_seed(1)) for family in (smooth, rough))
    assert torch.equal(a[:, 1], b[:, 1])
    assert float((a[:, 0] - b[:, 0]).abs().mean()) > 0.1


def test_a_study_tells_which_of_the_generated_channels_are_masks():
    channels = {"t1": "image", "t2": "image", "organ": "mask", "lesion": "mask"}
    image = Image(size=[8, 8], channels=channels, given=["t1", "organ"], labels=["a", "b"])
    block = Block(class_path="fedsynth.families.vae.VAE", args={"channels": [8, 16]})
    assert block.build(**image.context()).mask_channels == (1,)


def test_the_bound_of_images_that_lack_a_channel_is_that_of_the_values_that_are_there():
    """-log p(x | z) of the known values and the divergence, times 2 sigma^2, over the number of these values."""
    sigma, y = 0.5, torch.tensor([0, 1, 2, 0])
    family, x, seen = make(sigma=sigma, may_lack=(1,)), torch.rand(4, 2, 16, 16), torch.rand(4, 2, 16, 16)
    x[1:, 1] = float("nan")
    mean, log_variance = torch.randn(4, 4), torch.randn(4, 4)
    family.encode, family.decode = lambda *_: (mean, log_variance), lambda *_: seen
    known = ~x.isnan()
    apart = Normal(seen, sigma).log_prob(seen) - Normal(seen, sigma).log_prob(x.nan_to_num())
    kl = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum()
    expected = 2 * sigma**2 * (apart[known].sum() + kl) / known.sum()
    assert torch.isclose(family.loss("autoencoder", x, y, None), expected)


def with_priors(vae: VAE) -> VAE:
    """Gives each class another prior."""
    torch.manual_seed(3)
    vae.autoencoder["prior"].weight.data = 0.5 / vae.pace * torch.randn_like(vae.autoencoder["prior"].weight)
    return vae


def test_the_divergence_is_from_the_prior_of_the_class():
    vae, y = with_priors(make()), torch.tensor([0, 2, 1])
    mean, log_variance = torch.randn(3, 4), torch.randn(3, 4)
    middle, w = vae.prior(y)
    prior = MultivariateNormal(middle, precision_matrix=w.mT @ w)
    posterior = MultivariateNormal(mean, torch.diag_embed(log_variance.exp()))
    assert torch.allclose(divergence(mean, log_variance, middle, w), kl_divergence(posterior, prior), atol=1e-4)
    assert not torch.allclose(middle[0], middle[1])


def test_samples_are_decoded_from_the_prior_of_their_class(monkeypatch):
    vae, seen = with_priors(make()), []
    monkeypatch.setattr(vae, "decode", lambda z, y, given: seen.append(z) or torch.zeros(len(z), 2, 16, 16))
    y = torch.full((20_000,), 2)
    vae.sample(y, generator=torch.Generator().manual_seed(0))
    middle, w = (part[0] for part in vae.prior(y[:1]))
    covariance = torch.linalg.inv(w.mT @ w)
    scale = covariance.diagonal().sqrt()
    assert ((seen[0].mean(0) - middle) / scale).abs().max() < 0.05
    assert ((torch.cov(seen[0].T) - covariance) / scale / scale[:, None]).abs().max() < 0.05


def test_the_prior_is_learned_with_the_rest():
    vae = make()
    vae.loss("autoencoder", torch.rand(4, 2, 16, 16), torch.tensor([0, 0, 1, 1]), None).backward()
    gradient = vae.autoencoder["prior"].weight.grad
    assert (gradient[:2] != 0).any(1).all()
    assert (gradient[2] == 0).all()  # a class without images in the batch


@pytest.mark.parametrize("pace", [1.0, 15.0])
def test_a_step_moves_the_prior_faster_than_the_weights(pace):
    """AdamW moves each parameter by about lr, however small its gradient is."""
    vae = make(pace=pace)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=1e-3, weight_decay=0)
    vae.loss("autoencoder", torch.rand(4, 2, 16, 16), torch.tensor([0, 0, 1, 1]), None).backward()
    optimizer.step()
    middle, _ = vae.prior(torch.tensor([0, 1]))
    assert middle.abs().mean().item() == pytest.approx(1e-3 * pace, rel=0.05)


def test_the_prior_arrives_at_the_codes_of_its_class(monkeypatch):
    """Of fixed codes the fitted density is theirs: mean and covariance (Ghosh et al. 2020)."""
    torch.manual_seed(0)
    vae = make()
    codes = torch.randn(400, 4) @ torch.tensor([[0.3, 0.2, 0, 0], [0, 0.5, 0, 0.1], [0, 0, 0.2, 0], [0, 0, 0, 0.4]])
    codes += torch.tensor([1.0, -2.0, 0.5, 0.0])
    optimizer, y = (
        torch.optim.AdamW([vae.autoencoder["prior"].weight], lr=2e-3, weight_decay=0),
        torch.zeros(400).long(),
    )
    for _ in range(600):
        optimizer.zero_grad()
        divergence(codes, torch.full_like(codes, -12), *vae.prior(y)).mean().backward()
        optimizer.step()
    middle, w = (of[0] for of in vae.prior(y[:1]))
    assert torch.allclose(middle, codes.mean(0), atol=0.05)
    assert torch.allclose(torch.linalg.inv(w.mT @ w), torch.cov(codes.T), atol=0.05)
