"""A batch that is taken in parts, or made ahead, is the same batch."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.algorithms.fedprox import FedProx
from fedsynth.algorithms.scaffold import Scaffold
from fedsynth.families.regression import Regression
from fedsynth.params import Training
from fedsynth.privacy.dpsgd import DPSGD
from fedsynth.training.parts import ahead, parts
from fedsynth.training.trainer import Trainer
from tests import toys
from tests.contracts.test_families import FAMILIES, make
from tests.toys import trainer
from tests.training.test_trainer import equal, initial, run


class Rank:
    """What `parts` asks a group for."""

    def __init__(self, rank: int, size: int):
        self.rank, self.size = rank, size


def batch(n: int, given: bool = False):
    x = torch.arange(n * 2.0).reshape(n, 2, 1, 1)
    return x, torch.arange(n), -x if given else None


def test_a_batch_in_one_part_is_the_batch_itself_and_draws_nothing():
    whole, before = batch(5), torch.get_rng_state()
    ((found, share),) = parts(whole, 1, None, [1])
    assert found is whole
    assert share == 1
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("n", "accumulate", "size"), [(8, 2, 1), (7, 3, 1), (2, 3, 1), (7, 2, 2), (5, 1, 4), (9, 2, 3)]
)
@pytest.mark.parametrize("given", [False, True])
def test_all_parts_of_all_processes_are_the_batch_and_their_shares_its_images(n, accumulate, size, given):
    whole = batch(n, given)
    found = [of for rank in range(size) for of in parts(whole, accumulate, Rank(rank, size), [1])]
    assert torch.cat([x for (x, _, _), _ in found]).equal(whole[0])
    assert torch.cat([y for (_, y, _), _ in found]).equal(whole[1])
    assert [share for _, share in found] == [len(y) / n for (_, y, _), _ in found]
    assert sum(share for _, share in found) == pytest.approx(1)
    assert all(len(y) for (_, y, _), _ in found)
    if given:
        assert torch.cat([of for (_, _, of), _ in found]).equal(whole[2])


def test_the_random_numbers_of_a_part_are_its_own_whichever_process_takes_it():
    def drawn(accumulate, group, seed):
        return [float(torch.rand(())) for _ in parts(batch(8), accumulate, group, seed)]

    alone = drawn(4, None, [1, 2])
    assert len(set(alone)) == 4
    assert [*drawn(2, Rank(0, 2), [1, 2]), *drawn(2, Rank(1, 2), [1, 2])] == alone
    assert drawn(4, None, [1, 3]) != alone


def plain(monkeypatch):
    """Nothing of the toy family is left to chance."""
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)


@pytest.mark.parametrize("algorithm", [FedAvg, lambda: FedProx(mu=0.7), Scaffold])
@pytest.mark.parametrize(("n", "accumulate"), [(10, 2), (10, 3), (10, 4), (3, 4)])
def test_accumulated_gradients_are_those_of_the_whole_batch(monkeypatch, algorithm, n, accumulate):
    """Uneven parts, and more parts than images, too; the penalty of FedProx counts once."""
    plain(monkeypatch)
    (a, at), (b, bt) = (run(trainer(algorithm(), n=n, accumulate=k, ema=0.9), 3) for k in (1, accumulate))
    for one, other in zip(a, b, strict=True):
        assert one.losses == pytest.approx(other.losses, abs=1e-6)
        assert one.steps == other.steps
    assert max(np.abs(at[name] - bt[name]).max() for name in at) < 2e-4


@pytest.mark.parametrize("size", [(16, 16), (8, 8, 8)])
def test_a_network_with_given_channels_learns_the_same_from_parts(size):
    """Regression draws no random numbers."""
    found = []
    for accumulate in (1, 3):
        family = make(Regression, size, 1)
        torch.manual_seed(1)
        x, given = torch.rand((8, 2, *size)), torch.rand((8, 1, *size))
        plan = Training(rounds=1, epochs=1, batch=8, accumulate=accumulate)
        t = Trainer(family, FedAvg(), plan, x, torch.arange(8) % 3, given, 1)
        found.append(t.round(initial(t), 0).difference)
    assert max(np.abs(found[0][name] - found[1][name]).max() for name in found[0]) < 2e-3  # a step of Adam at most
    assert np.mean([np.abs(found[0][name] - found[1][name]).mean() for name in found[0]]) < 1e-5


@pytest.mark.parametrize("cls", FAMILIES, ids=lambda c: c.__name__)
def test_the_gradient_of_every_family_is_the_mean_of_its_parts_by_their_images(cls):
    family = make(cls, (16, 16), 1)
    torch.manual_seed(2)
    x, y, given = torch.rand((5, 2, 16, 16)) * 2 - 1, torch.arange(5) % 3, torch.rand((5, 1, 16, 16)) * 2 - 1
    plan = Training(rounds=2, batch=5, accumulate=2, clip=None)
    t = Trainer(family, FedAvg(), plan, x, y, given, 7)
    for place, (name, player) in enumerate(family.players().items()):
        t._gradient(name, player, (x, y, given), [0, 3])
        found = [p.grad for p in player.parameters()]
        expected = [torch.zeros_like(p) for p in player.parameters()]
        for part, share in parts((x, y, given), 2, None, [7, 0, 3, place]):
            of = torch.autograd.grad(
                family.loss(name, *part), list(player.parameters()), allow_unused=True, materialize_grads=True
            )
            expected = [e + share * g for e, g in zip(expected, of, strict=True)]
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, expected, strict=True) if a is not None)


def test_accumulation_is_exact_with_dp_sgd(monkeypatch):
    """Gradients are clipped one by one and noise is added once, however many images are in memory at once."""
    plain(monkeypatch)
    found, sizes, noises = [], [], []
    for accumulate in (1, 2, 4):
        privacy = DPSGD(8, unit="image")
        plan = toys.training(rounds=1, batch=8, accumulate=accumulate)
        t = Trainer(toys.Toy(), FedAvg(), plan, *toys.images(0, 20), None, 1, None, privacy)
        privacy.random = np.random.default_rng(3)
        for optimizer in privacy.noisy.values():
            optimizer.random = privacy.random
            add = optimizer.add_noise
            monkeypatch.setattr(optimizer, "add_noise", lambda a=add, k=accumulate: (noises.append(k), a()))
        samples = privacy.samples
        monkeypatch.setattr(privacy, "samples", lambda *of, s=samples: (sizes.append(len(of[1])), s(*of))[1])
        found.append(t.round(initial(t), 0))
        assert privacy.most == {1: 32, 2: 4, 4: 2}[accumulate]
        assert max(sizes) <= (20 if accumulate == 1 else privacy.most)
        sizes.clear()
    assert [noises.count(of) for of in (1, 2, 4)] == [2 * 3] * 3  # two players, three steps
    assert found[0].epsilon == found[1].epsilon == found[2].epsilon
    for other in found[1:]:
        for name, a in found[0].difference.items():
            assert np.abs(a - other.difference[name]).max() < 2e-4


def test_with_dp_sgd_the_player_that_sees_no_image_takes_its_random_batch_in_parts_too(monkeypatch):
    found = []
    for accumulate in (1, 3):
        family = toys.gan()
        monkeypatch.setattr(torch, "randn", lambda *size, device=None, **_: torch.full(size, 0.3))
        privacy = DPSGD(8, unit="image")
        plan = toys.training(rounds=1, batch=4, accumulate=accumulate)
        x, y = torch.rand((8, 1, 8, 8), generator=torch.Generator().manual_seed(1)), torch.arange(8) % 2
        t = Trainer(family, FedAvg(), plan, x, y, None, 1, None, privacy)
        privacy.random = np.random.default_rng(3)
        loss = privacy.gradient("generator", x[:2], y[:2], None)
        found.append((float(loss), [p.grad.clone() for p in t.players["generator"].parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found[0][1], found[1][1], strict=True))


def test_more_parts_than_images_in_a_batch_are_refused():
    with pytest.raises(ValueError, match="batch of 4 images cannot be taken in 5 parts"):
        toys.training(batch=4, accumulate=5)


def test_batches_that_are_made_ahead_give_the_same_training_to_the_bit(monkeypatch):
    found = []
    for early in (False, True):
        t = trainer(FedAvg(), flip=[0, 1], ema=0.9, rounds=3)
        if early:
            made = type(t)._batches
            monkeypatch.setattr(t, "_batches", lambda number, t=t, made=made: ahead(made(t, number)))
        found.append(run(t, 3))
    assert [u.losses for u in found[0][0]] == [u.losses for u in found[1][0]]
    assert equal(found[0][1], found[1][1])


def test_a_thread_makes_batches_ahead_in_order_and_an_error_in_it_is_raised_here():
    seen, main = [], threading.get_ident()

    def made(last):
        for n in range(5):
            if n == last:
                raise ValueError("the set on disk has changed")
            seen.append(n)
            assert threading.get_ident() != main
            yield n + 1

    some = ahead(made(9))
    assert next(some) == 1
    assert [*some] == [2, 3, 4, 5]
    assert seen == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="has changed"):
        list(ahead(made(3)))
    assert list(ahead(iter(()))) == []
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]
