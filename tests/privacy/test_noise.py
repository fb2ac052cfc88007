"""What steps amount to, by two accountants that bound the same thing."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from opacus.accountants import PRVAccountant
from opacus.accountants.utils import get_noise_multiplier
from scipy.stats import norm

from fedsynth.privacy import PrivacyError, noise
from fedsynth.privacy.noise import NoisyOptimizer, Spending, fitting, kept, seeded

DELTA = 1e-5
STEPS = [[(2.3, 0.07, 2000)], [(6.3, 0.6, 60)], [(3.0, 1.0, 10)], [(1.2, 0.1, 20), (1.5, 0.1, 40)]]


@pytest.mark.parametrize("history", STEPS)
def test_the_same_steps_have_cost_less_by_prv_than_by_rdp(history):
    """By Gopi et al. 2021, figure 1, it is a tenth or so."""
    by_rdp, by_prv = (Spending(history, accountant).epsilon(DELTA) for accountant in ("rdp", "prv"))
    assert 0.8 * by_rdp < by_prv < 0.97 * by_rdp


@pytest.mark.parametrize("history", STEPS)
def test_prv_is_what_opacus_says(history):
    theirs = PRVAccountant()
    theirs.history = list(history)
    assert Spending(history, "prv").epsilon(DELTA) == theirs.get_epsilon(DELTA)


def test_a_pure_gaussian_costs_what_the_formula_says():
    """Balle & Wang 2018, arXiv:1805.06530, theorem 8; 9 times a noise of 3 is once a noise of 1."""
    found = Spending([(3.0, 1.0, 9)], "prv").epsilon(DELTA)

    def delta(epsilon):
        return norm.cdf(0.5 - epsilon) - math.exp(epsilon) * norm.cdf(-0.5 - epsilon)

    assert delta(found) <= DELTA <= delta(found - 0.03)  # an upper bound, and within the accountant's errors


def test_the_order_of_the_steps_does_not_count():
    one, two = (1.2, 0.1, 20), (1.5, 0.1, 40)
    mixed = Spending([(1.2, 0.1, 5), two, (1.2, 0.1, 15)], "prv")
    assert mixed.epsilon(DELTA) == Spending([one, two], "prv").epsilon(DELTA)


@pytest.mark.parametrize("history", [[(0.3, 1.0, 1000)], [(900.0, 1.0, 1)]])
def test_where_prv_has_no_number_that_of_rdp_holds(history):
    """A budget without any meaning, and one so small that the numerical error of prv is most of it."""
    assert Spending(history, "prv").epsilon(DELTA) == Spending(history).epsilon(DELTA)


def test_nothing_done_has_cost_nothing():
    assert Spending(accountant="prv").epsilon(DELTA) == 0


def test_a_plan_by_prv_needs_less_noise_the_noise_that_opacus_would_take():
    found = fitting(Spending(accountant="prv"), 0.3, 100, 3, DELTA)
    theirs = get_noise_multiplier(target_epsilon=3, target_delta=DELTA, sample_rate=0.3, steps=100, accountant="prv",
                                  epsilon_tolerance=1e-3)  # fmt: skip
    assert found == pytest.approx(theirs, rel=5e-3)
    assert found < 0.97 * fitting(Spending(), 0.3, 100, 3, DELTA)


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_a_plan_keeps_its_noise_as_long_as_it_fits(accountant):
    spending = Spending(accountant=accountant)
    noise = kept(0.0, spending, 0.3, 40, 3, DELTA)
    spending.add(noise, 0.3, 30)
    assert kept(noise, spending, 0.3, 10, 3, DELTA) == noise
    more = kept(noise, spending, 0.3, 12, 3, DELTA)
    assert more > noise
    spending.add(more, 0.3, 12)
    assert 2.9 < spending.epsilon(DELTA) <= 3
    with pytest.raises(PrivacyError, match="spent"):
        kept(noise, spending, 0.3, 10, spending.epsilon(DELTA), DELTA)


def test_on_a_gpu_each_step_has_a_new_seed_of_64_bits_and_the_cpu_none_that_could_be_tried_out(monkeypatch):
    seeds = []
    monkeypatch.setattr(torch, "Generator", lambda device: SimpleNamespace(manual_seed=lambda n: seeds.append(n) or 1))
    found = [seeded(torch.device("cuda", 1)) for _ in range(20)]
    assert found == [1] * 20
    assert len(set(seeds)) == 20
    assert 2**58 < max(seeds) < 2**64
    assert seeded(torch.device("cpu")) is None
    assert seeded(torch.device("mps")) is None


@pytest.mark.parametrize("own", [True, False])
def test_the_noise_of_the_devices_own_generator_is_added_like_that_of_the_cpu(monkeypatch, own):
    weight = torch.nn.Parameter(torch.zeros(20000))
    plain = torch.optim.SGD([weight], lr=1.0)
    optimizer = NoisyOptimizer(plain, max_grad_norm=2.0, expected=1.0, random=np.random.default_rng(1))
    optimizer.noise_multiplier = 1.5
    weight.summed_grad = torch.full((20000,), 5.0)
    monkeypatch.setattr(noise, "seeded", lambda device: torch.Generator().manual_seed(3) if own else None)
    optimizer.add_noise()
    assert float(weight.grad.mean()) == pytest.approx(5, abs=0.1)
    assert float(weight.grad.std()) == pytest.approx(3, rel=0.03)
    drawn = torch.randn(20000, generator=torch.Generator().manual_seed(3))
    assert torch.equal(weight.grad, 5 + 3 * drawn) == own
