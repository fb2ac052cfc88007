"""Terms of the bound."""

import torch
import torch.nn.functional as F

from fedsynth.families.vae import VAE


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
    from torch.distributions import Normal, kl_divergence

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
