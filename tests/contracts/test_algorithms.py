"""What every algorithm must hold to: its halves fit each other, and it learns."""

import numpy as np
import pytest
import torch

from fedsynth import algorithms
from fedsynth.errors import UserError
from tests import toys
from tests.contracts.kinds import classes

FOUND = classes(algorithms, object)
ALGORITHMS = [cls for cls in FOUND if cls.job == "train"]
EXCHANGES = [cls for cls in FOUND if cls.job == "exchange"]


@pytest.mark.parametrize("cls", FOUND, ids=lambda c: c.__name__)
def test_an_algorithm_says_which_job_carries_it(cls):
    assert cls in ALGORITHMS + EXCHANGES


@pytest.mark.parametrize("cls", EXCHANGES, ids=lambda c: c.__name__)
class TestOneThatTeachesAGeneratorAtTheCentre:
    def test_it_goes_with_some_family_and_refuses_one_of_other_players(self, cls):
        cls().check(toys.gan(), 3, private=False)
        with pytest.raises(UserError, match="Toy"):
            cls().check(toys.Toy(), 3, private=False)

    def test_what_the_centre_has_is_all_that_the_sampler_needs(self, cls):
        family = toys.gan()
        assert set(cls().parameters(family)) == {
            name for name, p in family.named_parameters() if p in set(family.generator.parameters())
        }

    def test_it_says_how_sites_are_weighed_and_how_long_one_may_take(self, cls):
        made = cls()
        assert (made.weighting in ("images", "equal"), made.discriminator_steps >= 1, made.call_s > 0) == (
            True,
            True,
            True,
        )


@pytest.fixture(params=ALGORITHMS, ids=lambda c: c.__name__)
def cls(request):
    return request.param


def test_what_returns_is_named_and_shaped_as_what_was_sent(cls):
    sent = cls().prepare({n: p.detach().numpy().copy() for n, p in toys.Toy().named_parameters()})
    update = toys.trainer(cls()).round(sent, 0)
    assert {n: d.shape for n, d in update.difference.items()} == {n: a.shape for n, a in sent.items()}
    change = cls().aggregate([("a", 3.0, update.difference), ("b", 1.0, update.difference)])
    assert {n: d.shape for n, d in change.items()} == {n: a.shape for n, a in sent.items()}
    assert all(np.isfinite(d).all() for d in change.values())


def test_the_order_in_which_updates_arrive_changes_no_bit(cls):
    forwards, backwards = toys.federate(cls, sites=3), toys.federate(cls, sites=3, reverse=True)
    for name, array in forwards.items():
        np.testing.assert_array_equal(array, backwards[name])


def test_training_together_lowers_the_loss(cls):
    after = toys.Toy()
    x, y = toys.images(0)
    losses = []
    for current in (None, toys.federate(cls, rounds=3)):
        if current:
            after.load_state_dict({n: torch.from_numpy(current[n]) for n in after.state_dict()})
        torch.manual_seed(0)
        losses.append(float(sum(after.loss(player, x, y, None) for player in after.players()).detach()))
    assert losses[1] < 0.8 * losses[0]


def test_what_is_not_shared_stays_at_the_site(cls):
    algorithm = cls(shared="first.*")
    t = toys.trainer(algorithm)
    sent = algorithm.prepare({n: p.detach().numpy().copy() for n, p in algorithm.parameters(t.family).items()})
    before = t.family.second.weight.detach().clone()
    update = t.round(sent, 0)
    assert all("second" not in name for name in update.difference)
    kept = t.family.second.weight.detach().clone()
    assert not torch.equal(before, kept)  # it is trained
    algorithm.begin(t.family, {n: torch.from_numpy(a) for n, a in sent.items()})
    assert torch.equal(t.family.second.weight, kept)  # and not overwritten by the next round


def test_a_pattern_that_matches_nothing_is_an_error_that_names_it(cls):
    with pytest.raises(ValueError, match="discriminator"):
        cls(shared="discriminator.*").parameters(toys.Toy())


def test_a_server_that_sends_too_little_is_an_error(cls):
    with pytest.raises(ValueError, match="sent no"):
        cls().begin(toys.Toy(), {})


def test_the_state_of_a_site_passes_through_a_checkpoint(cls, tmp_path):
    from fedsynth.training import checkpoint

    algorithm = cls()
    t = toys.trainer(algorithm)
    t.round(algorithm.prepare({n: p.detach().numpy().copy() for n, p in t.family.named_parameters()}), 0)
    checkpoint.save(tmp_path / "state.pt", algorithm.state())
    again = cls()
    again.load_state(checkpoint.load(tmp_path / "state.pt"))
    assert str(again.state()) == str(algorithm.state())


def test_equal_weighting_leaves_the_numbers_of_images_out(cls):
    few = [("a", 3.0, {"w": np.float32([4])}), ("b", 1.0, {"w": np.float32([0])})]
    same = [(site, 1.0, d) for site, _, d in few]
    np.testing.assert_array_equal(cls(weighting="equal").aggregate(few)["w"], cls().aggregate(same)["w"])
    assert not np.array_equal(cls().aggregate(few)["w"], cls().aggregate(same)["w"])
