"""What is not trained stays as it is to the last bit, does not travel, gets no noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.algorithms.fedprox import FedProx
from fedsynth.algorithms.scaffold import Scaffold
from fedsynth.errors import UserError
from fedsynth.families import freeze
from fedsynth.families.latent import Latent
from fedsynth.params import Model
from fedsynth.privacy.dpsgd import DPSGD
from fedsynth.privacy.update import UpdateDP
from fedsynth.training.frozen import marked, parted
from fedsynth.training.initial import built, initial
from fedsynth.training.trainer import Trainer
from tests.sets import tiny_params
from tests.toys import Toy, gan, images, training

TRAINED = {"first.weight", "first.bias"}


def made(algorithm, family=None, patterns=("first.*",), privacy=None, state=None, rounds=3, **changes):
    family = freeze(family or Toy(), patterns)
    return Trainer(family, algorithm, training(rounds=rounds, **changes), *images(0), None, 1, state, privacy)


def bits(family):
    return {name: p.detach().clone() for name, p in family.named_parameters()}


def run(t, rounds=3, start=0, current=None, frozen=None):
    """The differences of some rounds of a site on its own, and the parameters that were exchanged."""
    own = {n: p.detach().numpy().copy() for n, p in t.algorithm.parameters(t.family).items()}
    current, sent = current or t.algorithm.prepare(own), []
    for number in range(start, rounds):
        sent.append(t.round(current, number, frozen if number == start else None).difference)
        change = t.algorithm.aggregate([("only", 1.0, sent[-1])])
        current = {n: a + change[n] for n, a in current.items()}
    return sent, current


MECHANISMS = [lambda: None, lambda: DPSGD(epsilon=8, unit="image", delta=1e-3), lambda: UpdateDP(epsilon=8, clip=0.1)]


@pytest.mark.parametrize("privacy", MECHANISMS, ids=["plain", "dpsgd", "update"])
@pytest.mark.parametrize("algorithm", [FedAvg, FedProx, Scaffold])
def test_what_is_frozen_stays_to_the_last_bit_and_is_in_no_difference(algorithm, privacy):
    t = made(algorithm(), privacy=privacy(), ema=0.9)
    before = bits(t.family)
    sent, _ = run(t)
    after = bits(t.family)
    assert all({name.rpartition(":")[2] for name in difference} == TRAINED for difference in sent)
    assert all(torch.equal(before[name], after[name]) for name in before if name not in TRAINED)
    assert not any(torch.equal(before[name], after[name]) for name in TRAINED)


def test_a_player_that_is_frozen_as_a_whole_takes_no_step_and_has_no_loss():
    t = made(FedAvg())
    update = t.round({n: p.detach().numpy().copy() for n, p in t.algorithm.parameters(t.family).items()}, 0)
    assert list(update.losses) == ["first"]
    assert list(t.optimizers) == ["first"]


def test_a_players_trained_part_moves_as_if_the_rest_were_constants():
    """A step of plain SGD-like Adam with a gradient of the bias alone."""
    t = made(FedAvg(), patterns=["first.bias"])
    sent, _ = run(t, 1)
    assert list(sent[0]) == ["first.bias"]
    assert np.abs(sent[0]["first.bias"]).max() > 0


def test_dp_sgd_clips_and_noises_what_is_trained_alone():
    """With no clipping and hardly any noise the private gradient is the plain one, of the trained parameters alone."""
    t = made(FedAvg(), patterns=["first.bias"], privacy=DPSGD(epsilon=8, unit="image", delta=1e-3))
    (noisy,) = [t.privacy.noisy[name] for name in t.privacy.noisy]
    assert [p.shape for p in noisy.params] == [t.family.first.bias.shape]
    run(t, 1)
    assert all(p.grad is None and getattr(p, "grad_sample", None) is None
               for name, p in t.family.named_parameters() if name != "first.bias")  # fmt: skip


def test_the_movement_that_a_site_allows_is_that_of_what_is_trained():
    assert made(FedAvg(), patterns=["first.bias"]).movement < made(FedAvg(), patterns=["*"]).movement


def test_a_gans_generator_learns_from_a_discriminator_that_stays():
    family = freeze(gan(), ["generator.*"])
    x, y = torch.rand((8, 1, 8, 8)) * 2 - 1, torch.arange(8) % 2
    t = Trainer(family, FedAvg(), training(rounds=1), x, y, None, 1)
    before = bits(family)
    run(t, 1)
    assert all(torch.equal(before[n], p) for n, p in bits(family).items() if n.startswith("discriminator."))
    assert any(not torch.equal(before[n], p) for n, p in bits(family).items() if n.startswith("generator."))


def test_frozen_parameters_come_with_a_message_once_and_are_kept_by_a_restarted_site(tmp_path):
    theirs = {"second.weight": np.full((2, 2, 1, 1), 0.5, np.float32), "second.bias": np.ones(2, np.float32)}
    first = made(FedAvg(), state=tmp_path / "s.pt")
    _, half = run(first, 1, frozen=theirs)
    again = made(FedAvg(), state=tmp_path / "s.pt")
    run(again, 2, start=1, current=half)
    for t in (first, again):
        assert torch.equal(t.family.second.weight, torch.full((2, 2, 1, 1), 0.5))
        assert torch.equal(t.family.second.bias, torch.ones(2))


def test_a_message_that_freezes_what_is_trained_is_refused():
    with pytest.raises(ValueError, match=r"sent first\.bias as frozen"):
        run(made(FedAvg()), 1, frozen={"first.bias": np.ones(2, np.float32)})


def test_the_names_of_a_message_go_there_and_back():
    arrays = {"a": np.ones(1), "b": np.zeros(2), "control:a": np.ones(1)}
    trained, frozen = marked(arrays, ["b"])
    assert list(trained) == ["a", "control:a"]
    back, kept = parted(trained | frozen)
    assert list(back) == ["a", "control:a"]
    assert list(kept) == ["b"]


LATENT = {"generated": 3, "given": 0, "labels": 3, "size": (16, 16), "channels": [8, 16], "latent": 2}


def test_a_phase_in_which_nothing_is_trained_has_no_round():
    whole, part = Latent(**LATENT), freeze(Latent(**LATENT), ["prior.*"])
    assert [whole.phase(n, 10)[0].players for n in (0, 9)] == [("autoencoder",), ("unet",)]
    assert [part.phase(n, 10)[0].players for n in (0, 9)] == [("unet",), ("unet",)]
    assert part.phase(0, 1)[1:] == (0, 1)  # one round is enough for the one phase that is left


@pytest.mark.parametrize("patterns", [["nothing.*"], ["*", "!*"]])
def test_nothing_to_train_is_refused(patterns):
    with pytest.raises(UserError, match="leaves no parameter of Toy"):
        freeze(Toy(), patterns)


def test_without_the_key_all_is_trained():
    assert freeze(Toy(), None).frozen == frozenset()
    assert all(p.requires_grad for p in freeze(Toy(), None).parameters())


def test_the_centre_begins_with_frozen_parameters_too():
    params = tiny_params()
    block = params.models["vae"].model_dump(mode="json")
    whole = Model.model_validate(block)
    part = Model.model_validate(block | {"trainable": ["*.decoder.*"]})
    frozen = built(part, params.image).frozen
    assert frozen
    every, some = initial(whole, params.image, 1), initial(part, params.image, 1)
    assert every.keys() == some.keys()
    assert all(np.array_equal(every[name], some[name]) for name in every)
