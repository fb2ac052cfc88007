"""Where the algorithms end on quadratics, against the solutions of linear systems."""

import numpy as np
import pytest

from fedsynth.algorithms.cyclic import Cyclic
from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.algorithms.fednova import FedNova
from fedsynth.algorithms.fedopt import FedOpt
from fedsynth.algorithms.fedprox import FedProx
from fedsynth.algorithms.scaffold import Scaffold
from tests.algorithms.quadratics import RATE, federate, optimum, shares, sites, solve

UNEQUAL = (16, 6, 2)  # steps in the shares of the weights, as with epochs
ONE = np.eye(3)


def ends(make, of, expected, rounds=60):
    """Rounds from elsewhere lead there, and one from there does not leave it."""
    np.testing.assert_allclose(federate(make, of, 1, start=expected), expected, atol=1e-10)
    np.testing.assert_allclose(federate(make, of, rounds), expected, atol=1e-4)


@pytest.mark.parametrize("steps", [(8, 8, 8), UNEQUAL])
@pytest.mark.parametrize("weighting", ["images", "equal"])
def test_fedavg_ends_where_the_sites_ways_cancel(steps, weighting):
    """A site goes (I - (I - rate A)^K) (c - w), so that the weighted sum of these is 0."""
    of = sites(steps=steps)
    p = shares(of) if weighting == "images" else np.full(3, 1 / 3)
    expected = solve([share * (ONE - site.left()) for share, site in zip(p, of, strict=True)], of)
    ends(lambda: FedAvg(weighting=weighting), of, expected)
    assert np.linalg.norm(expected - optimum(of, p)) > 0.05  # which is not the optimum: sites drift


def proximal(of, mu):
    """The proximal point is (A + mu)^-1 (A c + mu w), and the way there (I - (I - rate (A + mu))^K) of the distance."""
    ways = [(ONE - s.left(pull=mu)) @ np.linalg.solve(s.curvature + mu * ONE, s.curvature) for s in of]
    return solve([share * way for share, way in zip(shares(of), ways, strict=True)], of)


@pytest.mark.parametrize("mu", [0.5, 5.0])
def test_fedprox_ends_where_the_ways_to_the_proximal_points_cancel(mu):
    of = sites()
    ends(lambda: FedProx(mu=mu), of, proximal(of, mu))


def test_a_stronger_pull_ends_nearer_to_the_optimum():
    of = sites(steps=(30, 30, 30))
    far = [np.linalg.norm(proximal(of, mu) - optimum(of, shares(of))) for mu in (0.0, 1.0, 10.0)]
    assert far[0] > far[1] > far[2]
    for mu in (0.0, 1.0, 10.0):
        expected = proximal(of, mu)
        np.testing.assert_allclose(federate(lambda mu=mu: FedProx(mu=mu), of, 1, start=expected), expected, atol=1e-10)


@pytest.mark.parametrize("steps", [(8, 8, 8), UNEQUAL])
@pytest.mark.parametrize("weighting", ["images", "equal"])
def test_scaffold_converges_to_the_optimum_of_the_losses_in_the_sites_weights(steps, weighting):
    of = sites(steps=steps)
    p = shares(of) if weighting == "images" else np.full(3, 1 / 3)
    found = federate(lambda: Scaffold(weighting=weighting), of, 150)
    np.testing.assert_allclose(found, optimum(of, p), atol=1e-6)


def test_fednova_ends_where_the_ways_of_one_step_cancel():
    of = sites(steps=UNEQUAL)
    ends(FedNova, of, solve([p * (ONE - s.left()) / s.steps for p, s in zip(shares(of), of, strict=True)], of))


def test_with_small_steps_fednova_ends_at_the_optimum_and_fedavg_does_not():
    """The inconsistency of section 3 of the paper: FedAvg minimises the losses in the shares p_k tau_k."""
    of, rate = sites(steps=UNEQUAL), RATE / 1000
    p = shares(of)
    best, other = optimum(of, p), optimum(of, p * np.array(UNEQUAL))
    assert np.linalg.norm(best - other) > 0.3
    for make, there in ((FedNova, best), (FedAvg, other)):
        moved = [np.linalg.norm(federate(make, of, 1, rate, start) - start) for start in (best, other)]
        assert moved[there is other] < 0.01 * moved[there is best]


@pytest.mark.parametrize("options", [{"lr": 0.5}, {"lr": 0.5, "momentum": 0.5}])
def test_a_servers_sgd_ends_where_fedavg_does(options):
    of = sites(steps=UNEQUAL)
    expected = federate(FedAvg, of, 100)
    np.testing.assert_allclose(federate(lambda: FedOpt(**options), of, 100), expected, atol=1e-4)


def test_cyclic_transfer_is_one_site_after_the_other():
    """After whole cycles w is the fixed point of the product of the sites' maps w -> c + (I - rate A)^K (w - c)."""
    of, order = sites(), Cyclic()
    turn, shift = ONE, np.zeros(3)
    for site in of:
        turn, shift = site.left() @ turn, site.left() @ shift + (ONE - site.left()) @ site.centre
    expected = w = np.linalg.solve(ONE - turn, shift)
    for number in range(3):
        (name,) = order.sites_of_round(["2", "0", "1"], number)
        w = federate(Cyclic, [of[int(name)]], 1, start=w)
        assert np.linalg.norm(w - expected) > 0.1 or number == 2
    np.testing.assert_allclose(w, expected, atol=1e-10)
