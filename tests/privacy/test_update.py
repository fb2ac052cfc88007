"""Noise on a site's whole update: what leaves is short, noisy and counted, whatever the training was."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from opacus.accountants.utils import get_noise_multiplier

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.algorithms.fedopt import FedOpt
from fedsynth.algorithms.fedprox import FedProx
from fedsynth.algorithms.scaffold import Scaffold
from fedsynth.hospital.failures import word
from fedsynth.privacy import PrivacyError
from fedsynth.privacy.update import UpdateDP
from fedsynth.training.trainer import Trainer
from tests import toys
from tests.privacy.test_dpsgd import MAKE, images, initial, run, trainer


def update(epsilon=3, clip=0.5, **more):
    return UpdateDP(epsilon, clip=clip, **more)


def protected(rounds=4, **of):
    mechanism = update(**of)
    mechanism.protect(toys.Toy(), {}, toys.training(rounds=rounds), 10, 5)
    mechanism.begin(0)
    return mechanism


class Silent(UpdateDP):
    """No noise, whatever the budget: to see what it is added to."""

    def protect(self, *given):
        super().protect(*given)
        self.random = SimpleNamespace(standard_normal=np.zeros)


def silent(clip):
    mechanism = Silent(3, clip=clip)
    mechanism.protect(toys.Toy(), {}, toys.training(), 10, 5)
    mechanism.begin(0)
    return mechanism


def norm(difference):
    return math.sqrt(sum(float(np.square(a.astype(np.float64)).sum()) for a in difference.values()))


def arrays(scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return {"a": scale * rng.normal(size=(3, 4)).astype(np.float32), "b": scale * rng.normal(size=7).astype(np.float32)}


def test_a_long_difference_is_shortened_and_keeps_its_direction_and_a_short_one_is_as_it_was():
    sent = arrays()
    long, short = silent(0.5).release(sent), silent(100).release(sent)
    assert norm(long) == pytest.approx(0.5, rel=1e-6)
    for name, array in sent.items():
        np.testing.assert_allclose(long[name] * (norm(sent) / 0.5), array, rtol=1e-5)
        assert (short[name] == array).all()
        assert long[name].dtype == array.dtype


def test_any_other_data_change_what_is_released_by_no_more_than_twice_the_clip():
    one, other = silent(0.5).release(arrays(1e6)), silent(0.5).release(arrays(-1e6))
    assert norm({name: one[name] - other[name] for name in one}) == pytest.approx(1.0, rel=1e-5)
    drawn = [silent(0.5).release(arrays(scale, seed)) for seed, scale in enumerate([1e-9, 1e-3, 1, 1e3])]
    assert max(norm({n: a[n] - b[n] for n in a}) for a in drawn for b in drawn) <= 1.0 + 1e-6


def test_the_noise_has_the_deviation_that_the_accountant_counts_with():
    mechanism = protected(clip=0.5)
    drawn = mechanism.release({"a": np.zeros((200, 100), np.float32)})["a"]
    assert drawn.std() == pytest.approx(mechanism.noise * 2 * 0.5, rel=0.03)
    assert abs(drawn.mean()) < 5 * drawn.std() / math.sqrt(drawn.size)
    assert (drawn != mechanism.release({"a": np.zeros((200, 100), np.float32)})["a"]).all()


def test_a_difference_that_is_no_number_leaves_no_mark():
    found = silent(0.5).release({"a": np.array([np.nan, np.inf, 3.0], np.float32)})["a"]
    assert found.tolist() == pytest.approx([0, 0, 0.5])


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
@pytest.mark.parametrize(("rounds", "epsilon"), [(1, 1), (12, 8)])
def test_the_noise_of_the_plan_is_the_one_that_opacus_would_take(rounds, epsilon, accountant):
    theirs = get_noise_multiplier(
        target_epsilon=epsilon,
        target_delta=1e-5,
        sample_rate=1.0,
        steps=rounds,
        accountant=accountant,
        epsilon_tolerance=1e-3,
    )
    found = protected(rounds, epsilon=epsilon, accountant=accountant).noise
    assert found == pytest.approx(theirs, rel=5e-3)
    assert found == pytest.approx(
        math.sqrt(rounds) * protected(1, epsilon=epsilon, accountant=accountant).noise, rel=5e-3
    )


@pytest.mark.parametrize("algorithm", [FedAvg, FedProx, FedOpt, Scaffold])
def test_all_that_an_algorithm_sends_is_within_the_clip_also_the_averaged_weights_of_the_last_round(algorithm):
    sent, _ = run(trainer(Silent(3, clip=0.01), algorithm(), rounds=2, ema=0.9, lr=0.5), 2)
    plain, _ = run(trainer(None, algorithm(), rounds=2, ema=0.9, lr=0.5), 2)
    assert all(norm(of.difference) > 0.1 for of in plain)
    assert [norm(of.difference) for of in sent] == pytest.approx([0.01, 0.01])
    assert sent[0].difference.keys() == plain[0].difference.keys()  # with SCAFFOLD's controls


@pytest.mark.parametrize("algorithm", [FedAvg, Scaffold])
def test_without_noise_and_clip_it_is_plain_training(algorithm):
    found, _ = run(trainer(Silent(3, clip=1e9), algorithm(), rounds=2, ema=0.9), 2)
    plain, _ = run(trainer(None, algorithm(), rounds=2, ema=0.9), 2)
    for private, expected in zip(found, plain, strict=True):
        assert all((private.difference[name] == expected.difference[name]).all() for name in expected.difference)


@pytest.mark.parametrize("name", MAKE)
def test_it_trains_every_family_and_no_loss_leaves(name):
    family, (x, y, given) = MAKE[name](), images(6)
    found = Trainer(family, FedAvg(), toys.training(rounds=1), x, y, given, 1, privacy=update()).round(
        initial(family), 0
    )
    assert found.losses == {}
    assert found.difference.keys() == dict(family.named_parameters()).keys()
    assert 2.9 < found.epsilon <= 3
    count = sum(a.size for a in found.difference.values())
    # most of it is noise
    assert norm(found.difference) == pytest.approx(protected(1).noise * math.sqrt(count), rel=0.05)


def test_what_is_spent_grows_with_the_rounds_and_ends_just_below_what_was_asked_for():
    spent = [u.epsilon for u in run(trainer(update(), rounds=4), 4)[0]]
    assert spent == sorted(set(spent))
    assert 2.9 < spent[-1] <= 3


def test_a_restarted_site_has_spent_what_it_had_spent(tmp_path):
    path = tmp_path / "state.pt"
    whole, _ = run(trainer(update(), rounds=4), 4)
    first, half = run(trainer(update(), rounds=4, state=path), 2)
    second, _ = run(trainer(update(), rounds=4, state=path), 4, start=2, current=half)
    assert [u.epsilon for u in first + second] == [u.epsilon for u in whole]


def test_a_site_that_has_lost_its_state_is_refused_and_the_centre_learns_why(tmp_path):
    with pytest.raises(PrivacyError, match="before round 3 is not known") as error:
        run(trainer(update(), rounds=4, state=tmp_path / "none.pt"), 4, start=2)
    assert word(error.value) == "privacy"


def test_a_round_that_is_not_of_the_plan_is_refused():
    with pytest.raises(PrivacyError, match="round 5 is none of the 4"):
        run(trainer(update(), rounds=4), 5)


def test_a_round_done_twice_is_counted_twice_and_the_rest_gets_more_noise():
    t = trainer(privacy := update(), rounds=4)
    (first,), current = run(t, 1)
    planned = privacy.noise
    again = t.round(current, 0)
    rest, current = run(t, 4, start=1, current=current)
    assert again.epsilon > first.epsilon
    assert privacy.noise > planned
    assert rest[-1].epsilon <= 3
    privacy.epsilon = rest[-1].epsilon  # so that no noise is enough
    with pytest.raises(PrivacyError, match="spent"):
        t.round(current, 3)


def test_the_seed_tells_nobody_the_noise():
    (a,), (b,) = (run(trainer(update(), seed=1), 1)[0] for _ in range(2))
    assert all((a.difference[n] != b.difference[n]).any() for n in a.difference)


def test_many_sites_average_the_noise_away_and_what_they_have_in_common_stays():
    """What an update-level mechanism is made for: hundreds of sites, not three."""
    common = {"a": np.full(400, 0.02, np.float32)}  # of norm 0.4

    def error(sites):
        sent = [(str(i), 1.0, protected(1, epsilon=8).release(common)) for i in range(sites)]
        return norm({"a": FedAvg().aggregate(sent)["a"] - common["a"]})

    assert error(4) > 4 * norm(common)
    assert error(400) == pytest.approx(error(4) / 10, rel=0.2)


@pytest.mark.parametrize(
    "budget",
    [{}, {"epsilon": 8}, {"clip": 1.0},
     *({"epsilon": e, "clip": 1.0} for e in (0, -1, math.inf, math.nan, True, "8", None)),
     *({"epsilon": 8, "clip": c} for c in (0, -1.0, math.inf, math.nan)),
     *({"epsilon": 8, "clip": 1, "delta": d} for d in (0, 1, None)),
     {"epsilon": 8, "clip": 1, "accountant": "gdp"}],
)  # fmt: skip
def test_a_budget_that_makes_no_sense_is_refused(budget):
    with pytest.raises(PrivacyError, match=r"epsilon|delta|clip|accountant"):
        UpdateDP(**budget)


def test_an_epsilon_too_small_for_any_noise_is_refused():
    with pytest.raises(PrivacyError, match="too small"):
        protected(10**6, epsilon=1e-9)


def test_the_unit_is_the_whole_site():
    assert update().unit == "site"
