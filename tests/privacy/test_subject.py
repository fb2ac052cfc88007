"""What a step costs one subject with several images, held against exact sums, Opacus and the Gaussian's own curve."""

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, norm

from fedsynth.privacy.noise import ORDERS, Spending, bound, fitting
from fedsynth.privacy.noise import divergence as of_one
from fedsynth.privacy.subject import Spent, divergence, group_of, rounded_up

DELTA = 1e-5


def by_rdp(noise, rate, steps, group=1):
    return bound(Spent(((noise, rate, steps),), group).divergences(), DELTA)


@pytest.mark.parametrize(("noise", "rate"), [(2.3, 0.07), (6.25, 0.59), (0.8, 0.3), (0.3, 0.02)])
def test_a_subject_with_one_image_costs_what_opacus_says(noise, rate):
    from fedsynth.privacy.subject import _mixture

    ours = [_mixture(noise, rate, 1, order) for order in ORDERS]
    np.testing.assert_allclose(ours, of_one(noise, rate), rtol=1e-6)
    assert divergence(noise, rate) is of_one(noise, rate)


@pytest.mark.parametrize(("noise", "rate", "group"), [(1.5, 0.2, 2), (2.0, 0.6, 3), (4.0, 0.1, 5)])
def test_the_integral_is_the_exact_sum_where_there_is_one(noise, rate, group):
    """For whole orders a: E_Q (P/Q)^a = sum over j1..ja of their weights' product x exp(sum of all j j' / s^2)."""
    weights = binom.pmf(range(group + 1), group, rate)
    for order in (2, 3, 4):
        exact = sum(
            math.prod(weights[j] for j in js) * math.exp((sum(js) ** 2 - sum(j * j for j in js)) / 2 / noise**2)
            for js in product(range(group + 1), repeat=order)
        )
        found = divergence(noise, rate, group)[ORDERS.index(order)]
        assert found == pytest.approx(math.log(exact) / (order - 1), rel=1e-6)


@pytest.mark.parametrize("group", [2, 3, 5])
def test_with_all_images_in_every_batch_the_noise_is_divided_by_their_number(group):
    found = divergence(8.0, 1.0, group)
    assert (found == of_one(8.0 / group, 1.0)).all()
    np.testing.assert_allclose(divergence(8.0, 1 - 1e-9, group), found, rtol=1e-5)


@pytest.mark.parametrize(("noise", "rate", "group"), [(1.2, 0.3, 2), (2.5, 0.5, 4), (0.9, 0.05, 3)])
def test_no_event_of_a_step_is_likelier_than_its_epsilon_allows(noise, rate, group):
    """The exact delta of one step, in both directions, at the epsilon that is said: below the delta that is said."""
    x = np.linspace(-30 * noise, group + 30 * noise, 400_001)
    q = norm.pdf(x, 0, noise)
    p = sum(w * norm.pdf(x, j, noise) for j, w in enumerate(binom.pmf(range(group + 1), group, rate)))
    epsilon, dx = by_rdp(noise, rate, 1, group), x[1] - x[0]
    for one, other in ((p, q), (q, p)):
        assert np.maximum(one - math.exp(epsilon) * other, 0).sum() * dx <= DELTA
    assert np.maximum(p - math.exp(by_rdp(noise, rate, 1)) * q, 0).sum() * dx > DELTA  # that of one image is too small


def test_groups_of_images_of_an_epsilon_of_8():
    """Issue 15 has 7.4, 17.6, 30.3 and 63 for 1, 2, 3 and 5 images: the exact curve of a Gaussian that is mu-GDP with
    mu = 1.56 (Dong et al. 2019, arXiv:1905.02383, theorem 2), times 1, 2, 3 and 5, to which many steps come. That is
    what full batches are by PRV. Sums of Rényi divergences are 6 to 8 % above at any rate, and a bound.
    """
    groups, of_issue = (1, 2, 3, 5), [7.4, 17.6, 30.3, 63]

    def exact(mu):
        low, high = 0.0, 500.0
        for _ in range(60):
            e = (low + high) / 2
            delta = norm.cdf(mu / 2 - e / mu) - math.exp(e + norm.logcdf(-mu / 2 - e / mu))
            low, high = (e, high) if delta > DELTA else (low, e)
        return high

    assert [exact(1.5616 * k) for k in groups] == pytest.approx(of_issue, rel=2e-3)
    full = fitting(Spending(), 1.0, 160, 8, DELTA)
    assert [Spending([(full / k, 1.0, 160)], "prv").epsilon(DELTA) for k in groups] == pytest.approx(of_issue, rel=1e-2)
    for rate, steps in ((1.0, 160), (64 / 109, 273), (8 / 109, 2180)):
        noise = fitting(Spending(), rate, steps, 8, DELTA)
        found = [by_rdp(noise, rate, steps, k) for k in groups]
        assert found == pytest.approx([8.0, 18.8, 32.2, 66.6], rel=5e-3)
        assert all(1 < ours / said < 1.09 for ours, said in zip(found, of_issue, strict=True))


def test_more_images_more_steps_and_less_noise_cost_more():
    by_group = [by_rdp(2.0, 0.1, 50, k) for k in (1, 2, 4, 8)]
    assert by_group == sorted(set(by_group))
    assert by_rdp(2.0, 0.1, 50, 4) < by_rdp(2.0, 0.1, 60, 4) < by_rdp(1.8, 0.1, 60, 4) < by_rdp(1.8, 0.12, 60, 4)


@pytest.mark.parametrize(("noise", "rate"), [(1e-3, 0.1), (0.02, 0.5), (2.0**20, 0.3), (1e-8, 0.5)])
def test_noise_that_is_absurd_still_has_a_bound_and_never_none(noise, rate):
    found = Spent(((noise, rate, 10),), 4).divergences()
    assert np.isfinite(found).all()
    assert (found >= 10 * np.minimum(of_one(noise, rate), 1e298) * (1 - 1e-6)).all()


@pytest.mark.parametrize(
    ("unit", "relation", "group"), [("image", "add_remove", 4), ("subject", "add_remove", 1), ("site", "replace", 1)]
)
def test_how_many_units_a_subject_is(unit, relation, group):
    assert group_of(unit, relation, 4) == group


@pytest.mark.parametrize(("unit", "relation"), [("image", "replace"), ("subject", "replace"), ("ward", "add_remove")])
def test_what_cannot_be_converted_is_not_guessed(unit, relation):
    with pytest.raises(ValueError, match="not known"):
        group_of(unit, relation, 4)


@pytest.mark.parametrize(("images", "group"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8)])
def test_the_largest_number_of_images_is_told_as_a_power_of_two(images, group):
    assert rounded_up(images) == group
