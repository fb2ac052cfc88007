"""The loop: reproducible, resumable, and each of its parts does what its name says."""

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.algorithms.fedopt import FedOpt
from fedsynth.algorithms.scaffold import Scaffold
from fedsynth.errors import UserError
from fedsynth.families import Phase
from fedsynth.params import Training
from fedsynth.privacy.update import UpdateDP
from fedsynth.training.schedules import Averaged, averaging, decay
from fedsynth.training.trainer import Trainer
from tests import toys
from tests.toys import Toy, images, trainer, training


def initial(t):
    return t.algorithm.prepare({n: p.detach().numpy().copy() for n, p in t.family.named_parameters()})


def run(t, rounds, start=0, current=None):
    """The updates of some rounds of a site on its own, and the parameters after them."""
    current, updates = current or initial(t), []
    for number in range(start, rounds):
        updates.append(t.round(current, number))
        change = t.algorithm.aggregate([("only", 1.0, updates[-1].difference)])
        current = {n: a + change[n] for n, a in current.items()}
    return updates, current


def equal(a, b):
    return a.keys() == b.keys() and all((a[n] == b[n]).all() for n in a)


def test_the_same_seed_gives_the_same_losses_and_the_same_bits():
    (a, at), (b, bt), (_, ct) = (run(trainer(FedAvg(), seed=seed, ema=0.9, flip=[1]), 3) for seed in (1, 1, 2))
    assert [u.losses for u in a] == [u.losses for u in b]
    assert equal(at, bt)
    assert not equal(at, ct)


@pytest.mark.parametrize("algorithm", [FedAvg, Scaffold])
def test_a_restarted_site_goes_on_as_if_nothing_had_happened(tmp_path, algorithm):
    options = {"rounds": 4, "ema": 0.9, "flip": [0, 1]}
    _, whole = run(trainer(algorithm(), **options), 4)
    first = trainer(algorithm(), state=tmp_path / "state.pt", **options)
    _, half = run(first, 2)
    # the stored random state wins over the seed
    second = trainer(algorithm(), seed=77, state=tmp_path / "state.pt", **options)
    _, resumed = run(second, 4, start=2, current=half)
    assert second.rounds_done == 4
    assert equal(whole, resumed)


def test_a_new_training_does_not_go_on_from_what_an_older_one_left(tmp_path):
    old = trainer(FedAvg(), state=tmp_path / "state.pt")
    run(old, 3)
    (_, fresh), (_, again) = run(trainer(FedAvg()), 3), run(trainer(FedAvg(), state=tmp_path / "state.pt"), 3)
    assert equal(fresh, again)


def test_the_last_round_sends_the_averaged_weights():
    t = trainer(FedAvg(), ema=0.9, rounds=2)
    _, current = run(t, 1)
    assert any((current[n] != p.detach().numpy()).any() for n, p in t.average.module.named_parameters())
    before = current
    update = t.round(before, 1)
    for name, averaged in t.average.module.named_parameters():
        sent = torch.from_numpy(before[name] + update.difference[name])
        assert torch.allclose(sent, averaged, atol=1e-6)


def test_the_average_of_a_short_training_has_forgotten_the_untrained_weights():
    """A site of 16 images takes 216 steps in a whole training: 0.995^216 of the first weights would be a third."""
    start, trained, average = torch.zeros(1), torch.ones(1), torch.zeros(1)
    update = averaging(0.995)
    for n in range(1, 216):
        update([average], [trained], torch.tensor(n))
    assert float(average) > 0.999
    far = start.clone()
    update([far], [trained], torch.tensor(10**6))
    assert torch.allclose(far, torch.tensor([0.005]))


def test_the_average_is_torchs_own_to_the_bit_and_its_state_can_be_exchanged():
    """Torch's sends the number of the step to the device, and waits there."""
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    ours, theirs = Averaged(network, 0.9), AveragedModel(network, multi_avg_fn=averaging(0.9))
    for _ in range(5):
        with torch.no_grad():
            for p in network.parameters():
                p.add_(torch.randn_like(p))
            network(torch.randn(4, 3))  # moves the buffers
        for average in (ours, theirs):
            average.update_parameters(network)
    kept, expected = ours.state_dict(), theirs.state_dict()
    assert list(kept) == list(expected)
    assert all(torch.equal(kept[name], expected[name]) for name in kept)


def test_the_average_is_the_sum_of_the_weights_with_shares_that_fall_by_the_decay():
    t = trainer(FedAvg(), ema=0.5, rounds=9, lr=0.1)
    seen = []
    update_parameters = t.average.update_parameters

    def watched(model):
        seen.append(model.first.weight.detach().clone())
        update_parameters(model)

    t.average.update_parameters = watched
    t.round(initial(t), 0)
    expected = seen[0]
    for n, weight in enumerate(seen[1:], start=1):
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weight
    assert len(seen) == 3
    assert torch.allclose(t.average.module.first.weight, expected, atol=1e-6)


def test_the_learning_rate_falls_from_all_of_it_to_the_share_of_lr_end():
    t = trainer(FedAvg(), lr_end=0.1)
    assert decay(t.training, 0.0) == pytest.approx(1)
    assert decay(t.training, 0.5) == pytest.approx(0.55)
    assert decay(t.training, 1.0) == pytest.approx(0.1)
    assert decay(t.training, 1.2) == pytest.approx(0.1)  # rounds beyond the plan
    run(t, 3)
    assert t.optimizers["first"].param_groups[0]["lr"] < 0.05 * 0.3


def test_each_player_has_its_own_learning_rate():
    t = trainer(FedAvg(), lr={"first": 0.1, "second": 0.0})
    before = initial(t)
    difference = t.round(before, 0).difference
    assert abs(difference["first.weight"]).max() > 0
    assert abs(difference["second.weight"]).max() == 0


def test_a_learning_rate_for_a_player_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="players are"):
        trainer(FedAvg(), lr={"first": 0.1, "third": 0.1})


@pytest.mark.parametrize("axis", [0, 1])
def test_a_flip_mirrors_every_channel_and_what_is_given_alike(axis):
    x = torch.arange(16.0).reshape(1, 1, 4, 4).expand(32, 2, 4, 4).clone()
    t = toys.Trainer(
        toys.Toy(), FedAvg(), toys.training(flip=[axis]), x, torch.zeros(32, dtype=torch.long), x[:, :1].clone(), 1
    )
    seen, _, given = t._batch(torch.arange(32))
    assert torch.equal(seen[:, :1], given)
    assert torch.equal(seen[:, 0], seen[:, 1])
    mirrored = torch.tensor([bool((image[0] != x[0, 0]).any()) for image in seen])
    assert 0 < mirrored.sum() < 32
    assert torch.equal(seen[mirrored], x[mirrored].flip(axis + 2))
    assert torch.equal(x[0, 0], torch.arange(16.0).reshape(4, 4))  # the set itself is not touched


def test_the_weight_of_a_site_is_its_number_of_images_and_steps_fill_the_epochs():
    update = trainer(FedAvg(), epochs=2, batch=4).round(initial(trainer(FedAvg())), 0)
    assert (update.weight, update.steps) == (10.0, 5)


def test_local_steps_are_the_same_whatever_the_number_of_images():
    assert trainer(FedAvg(), local_steps=7, batch=4).round(initial(trainer(FedAvg())), 0).steps == 7
    assert {Training(rounds=1, local_steps=7, batch=64).steps(n) for n in (1, 16, 1000)} == {7}


def test_epochs_beside_local_steps_are_an_error():
    with pytest.raises(ValueError, match="keep one of them"):
        Training(rounds=1, epochs=2, local_steps=7)


def test_sites_send_the_difference_to_what_they_received():
    t = trainer(FedAvg())
    before = initial(t)
    difference = t.round(before, 0).difference
    for name, parameter in t.family.named_parameters():
        assert torch.allclose(torch.from_numpy(before[name] + difference[name]), parameter, atol=1e-6)


class Off(Toy):
    """Is 0.2 off every image."""

    has_error = True

    def error(self, x, y, given):
        return torch.tensor(0.04)


def test_the_score_is_a_peak_signal_to_noise_ratio_of_the_validation_images():
    site = Trainer(Off(), FedAvg(), training(), *images(0), None, 1, held_out=(*images(1), None))
    update = site.round({n: p.detach().numpy().copy() for n, p in Toy().named_parameters()}, 0)
    assert update.score == pytest.approx(20.0, abs=1e-5)  # 10 log10(2^2 / 0.2^2)


def test_the_score_costs_the_training_no_random_number():
    start = {n: p.detach().numpy().copy() for n, p in Toy().named_parameters()}
    plain = Trainer(Off(), FedAvg(), training(), *images(0), None, 1)
    scored = Trainer(Off(), FedAvg(), training(), *images(0), None, 1, held_out=(*images(1), None))
    torch.manual_seed(3)
    a = [plain.round(start, n).difference for n in (0, 1)]
    torch.manual_seed(3)
    b = [scored.round(start, n).difference for n in (0, 1)]
    assert all(np.array_equal(x[n], y[n]) for x, y in zip(a, b, strict=True) for n in start)


def test_a_state_of_a_training_that_went_farther_is_not_taken_up(tmp_path):
    """In cyclic training a site's first round is not the first one, and an older training's state may lie there."""
    start = {n: p.detach().numpy().copy() for n, p in Toy().named_parameters()}
    old = Trainer(Toy(), FedAvg(), training(rounds=9), *images(0), None, 1, tmp_path / "s.pt")
    for number in range(5):
        old.round(start, number)
    fresh, other = (
        Trainer(Toy(), FedAvg(), training(rounds=9), *images(0), None, 1, state) for state in (tmp_path / "s.pt", None)
    )
    torch.manual_seed(3)
    a = fresh.round(start, 1).difference
    torch.manual_seed(3)
    b = other.round(start, 1).difference
    assert all(np.array_equal(a[n], b[n]) for n in start)


class Phased(Toy):
    """`first` steps in two of five rounds, `second` in the others, on what `first` makes of the images."""

    def phases(self):
        return [Phase(0.4, ("first",)), Phase(0.6, ("second",), self.seen)]

    def seen(self, x, given):
        return self.first(x), None


def phased(algorithm=None, state=None, seed=1, **changes):
    return Trainer(
        Phased(),
        algorithm or FedAvg(),
        training(**({"rounds": 5, "ema": 0.9} | changes)),
        *images(0),
        None,
        seed,
        state,
    )


@pytest.mark.parametrize(("rounds", "ends"), [(5, [2, 5]), (2, [1, 2]), (10, [4, 10]), (3, [1, 3])])
def test_phases_share_out_the_rounds_and_each_has_one_at_least(rounds, ends):
    family = Phased()
    found = [family.phase(number, rounds)[0].players[0] for number in range(rounds)]
    assert found == ["first"] * ends[0] + ["second"] * (ends[1] - ends[0])
    assert family.phase(rounds + 3, rounds)[1:] == (ends[0], rounds)


def test_more_phases_than_rounds_are_an_error_that_says_so():
    with pytest.raises(UserError, match=r"rounds is 1; Phased trains in 2 phases"):
        Phased().phase(0, 1)


@pytest.mark.parametrize("algorithm", [FedAvg, Scaffold, lambda: FedOpt("Adam", lr=0.01)])
def test_a_player_that_rests_does_not_move_by_a_bit(algorithm):
    t = phased(algorithm())
    current = initial(t)
    for number in range(5):
        _, after = run(t, number + 1, start=number, current=current)
        rests = "second" if number < 2 else "first"
        # and SCAFFOLD's "control:first.weight" no more than it
        assert all((after[n] == current[n]).all() for n in after if rests in n)
        assert any((after[n] != current[n]).any() for n in after if rests not in n)
        current = after


def test_noise_on_the_update_leaves_a_player_that_rests_alone():
    t = Trainer(Phased(), Scaffold(), training(rounds=5), *images(0), None, 1, privacy=UpdateDP(8, clip=0.1))
    current = initial(t)
    for number in range(5):
        (update,), current = run(t, number + 1, start=number, current=current)
        rests = "second" if number < 2 else "first"
        assert all((array == 0).all() == (rests in name) for name, array in update.difference.items())


def test_the_learning_rate_falls_in_each_phase_and_losses_are_of_who_steps():
    t = phased(lr_end=0.0, epochs=4)
    current, rates = initial(t), []
    for number in range(5):
        (update,), current = run(t, number + 1, start=number, current=current)
        name = "first" if number < 2 else "second"
        assert set(update.losses) == {name}
        rates.append(t.optimizers[name].param_groups[0]["lr"] / 0.05)
    assert rates[1] < 0.1
    assert rates[4] < 0.1
    assert rates[2] > 0.7


def test_the_end_of_a_phase_sends_the_averaged_weights_and_the_next_one_averages_anew():
    t = phased()
    _, current = run(t, 1)
    update = t.round(current, 1)
    averaged = dict(t.average.module.named_parameters())
    for name, sent in update.difference.items():
        assert torch.allclose(torch.from_numpy(current[name] + sent), averaged[name], atol=1e-6)
    after = {n: a + update.difference[n] for n, a in current.items()}
    other = {n: a + 1 for n, a in after.items()}  # what the mean over the sites could be
    t.round(other, 2)
    assert torch.equal(t.average.module.first.weight, torch.from_numpy(other["first.weight"]))


def test_a_view_is_what_the_players_see_computed_once_a_round_of_mirrored_images(monkeypatch):
    family, seen, made = Phased(), [], []
    t = Trainer(family, FedAvg(), training(rounds=5, epochs=3, flip=[1]), *images(0), None, 1)
    loss, view = family.loss, family.seen
    monkeypatch.setattr(family, "loss", lambda p, x, y, given: seen.append((p, x)) or loss(p, x, y, given))
    monkeypatch.setattr(family, "seen", lambda x, given: made.append((x, view(x, given)[0])) or (made[-1][1], None))
    _, current = run(t, 2)
    assert not made
    seen.clear()
    run(t, 4, start=2, current=current)
    assert [len(x) for x, _ in made] == [10, 10]
    every = torch.cat([of for _, of in made]).flatten(1)
    assert all((torch.cdist(x.flatten(1), every).min(1).values < 1e-6).all() for _, x in seen)
    x, _ = images(0)
    mirrored = [[bool((a != b).any()) for a, b in zip(mine, x, strict=True)] for mine, _ in made]
    assert 0 < sum(mirrored[0]) < 10
    assert mirrored[0] != mirrored[1]


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_a_site_restarted_in_any_phase_goes_on_as_if_nothing_had_happened(tmp_path, stop):
    _, whole = run(phased(flip=[1]), 5)
    _, part = run(phased(state=tmp_path / "s.pt", flip=[1]), stop)
    _, resumed = run(phased(state=tmp_path / "s.pt", seed=77, flip=[1]), 5, start=stop, current=part)
    assert equal(whole, resumed)
