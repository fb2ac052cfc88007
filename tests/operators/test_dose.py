"""Low dose: unbiased, with the variance that the model says."""

import pytest
import torch

from fedsynth.operators.dose import LowDose


def noisy(x, **args):
    return LowDose(**args).degrade(torch.full((1, 300, 300), x), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("x", [-0.6, 0.0, 0.4])
def test_the_mean_stays_and_the_variance_is_that_of_photons_and_electronics(x):
    u = (noisy(x, photons=200, sigma=0.02) + 1) / 2
    true = (x + 1) / 2
    assert float(u.mean()) == pytest.approx(true, abs=2e-3)
    assert float(u.var()) == pytest.approx(true / 200 + 0.02**2, rel=0.05)


def test_more_photons_mean_less_noise_and_very_many_none():
    spread = [float(noisy(0.0, photons=n, sigma=0).std()) for n in (10, 100, 1e9)]
    assert spread == sorted(spread, reverse=True)
    assert spread[-1] < 1e-3


def test_no_signal_has_no_noise_but_that_of_the_electronics():
    assert torch.equal(noisy(-1.0, sigma=0), torch.full((1, 300, 300), -1.0))
    assert noisy(-1.0, sigma=0.1).std() > 0.05
