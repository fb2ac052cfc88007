"""A model that goes from site to site."""

import numpy as np
import pytest

from fedsynth.algorithms.cyclic import Cyclic
from fedsynth.errors import UserError
from tests import toys

SITES = ["south", "east", "north"]


def test_every_site_has_its_turn_in_the_order_of_the_names():
    assert [Cyclic().sites_of_round(SITES, n) for n in range(4)] == [["east"], ["north"], ["south"], ["east"]]


def test_a_site_that_is_away_is_passed_over():
    assert Cyclic().sites_of_round(["north", "south"], 0) == ["north"]


def test_the_next_site_begins_with_what_the_last_one_came_to():
    algorithm, a, b = Cyclic(), toys.trainer(Cyclic(), 0, rounds=2), toys.trainer(Cyclic(), 1, rounds=2)
    start = {n: p.detach().numpy().copy() for n, p in toys.Toy().named_parameters()}
    update = a.round(start, 0)
    handed = {n: start[n] + d for n, d in algorithm.aggregate([("a", update.weight, update.difference)]).items()}
    for name, parameter in a.family.named_parameters():
        np.testing.assert_allclose(handed[name], parameter.detach().numpy(), atol=1e-6)
    # its first turn is the second round, and there is nothing to restore
    assert set(b.round(handed, 1).difference) == set(start)


def test_a_mechanism_of_privacy_is_refused():
    with pytest.raises(UserError, match="Cyclic with a mechanism of privacy"):
        Cyclic().check(toys.Toy(), 4, True)
