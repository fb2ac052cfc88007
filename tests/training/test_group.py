"""Several processes that train together are one training: two of them come to what one does with the same batches."""

from __future__ import annotations

import pickle

import numpy as np
import psutil
import pytest
import torch

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.algorithms.scaffold import Scaffold
from fedsynth.data.stored import OnDisk, Stored
from fedsynth.hospital import failures
from fedsynth.privacy.dpsgd import DPSGD
from fedsynth.privacy.update import UpdateDP
from fedsynth.training.group import GroupError, shared
from fedsynth.training.trainer import Trainer
from tests import toys
from tests.contracts.test_families import FAMILIES, make
from tests.training.test_trainer import run

STALL_S = 60.0


def what(family, algorithm=None, n=10, **changes):
    plan = toys.training(**({"ema": 0.9, "flip": [1], "batch": 5} | changes))
    x, y = toys.images(0, n)
    return {"family": family, "algorithm": algorithm or FedAvg(), "training": plan, "x": x, "y": y, "given": None,
            "seed": 1}  # fmt: skip


def rounds(of, processes, mechanism=None, **options):
    """The updates of the rounds of a training, and the parameters after them."""
    with shared(of, mechanism, processes, STALL_S) as group:
        return run(Trainer(**of, privacy=mechanism, group=group, **options), of["training"].rounds)


def children() -> list[psutil.Process]:
    return [of for of in psutil.Process().children(recursive=True) if "fedsynth.training.rank" in of.cmdline()]


def apart(a, b) -> float:
    return max(np.abs(a[name] - b[name]).max() for name in a)


def mean_apart(a, b) -> float:
    """Adam makes a step of a gradient that is 0 but for rounding, so single parameters may be far apart."""
    return float(np.mean(np.concatenate([np.abs(a[name] - b[name]).ravel() for name in a])))


def test_two_processes_come_to_what_one_does_with_the_same_batches():
    (one, alone), (both, together) = (rounds(what(toys.Plain(), Scaffold()), n) for n in (1, 2))
    assert apart(alone, together) < 1e-4
    for a, b in zip(one, both, strict=True):
        assert a.losses == pytest.approx(b.losses, abs=1e-6)
        assert (a.steps, a.weight) == (b.steps, b.weight)
    assert children() == []


def test_with_random_numbers_two_processes_are_one_that_takes_each_batch_in_as_many_parts():
    def of(accumulate):
        made = what(toys.gan(), accumulate=accumulate)
        return made | {"x": made["x"].repeat(1, 1, 2, 2)[:, :1], "y": made["y"] % 2}

    (one, alone), (_, together) = rounds(of(4), 1), rounds(of(2), 2)
    other = rounds(of(1), 1)[1]
    assert mean_apart(alone, together) < 0.02 * mean_apart(alone, other), "the same but for rounding"
    assert np.isfinite(list(one[0].losses.values())).all()


def test_only_the_sites_own_process_writes_state_and_a_restarted_group_goes_on_with_a_set_on_disk(tmp_path):
    folder = tmp_path / "a blank"
    folder.mkdir()
    np.save(folder / "images.npy", toys.images(0, 10)[0].numpy())
    stored = OnDisk(Stored.open(folder / "images.npy", np.arange(10)))
    _, whole = rounds(what(toys.Plain(), Scaffold()), 1)
    first = what(toys.Plain(), Scaffold()) | {"x": stored, "state": folder / "state.pt"}
    with shared(first, None, 2, STALL_S) as group:
        _, half = run(Trainer(**first, group=group), 2)
    assert {of.name for of in folder.iterdir()} == {"images.npy", "state.pt"}
    again = what(toys.Plain(), Scaffold()) | {"x": stored, "state": folder / "state.pt", "seed": 5}
    with shared(again, None, 2, STALL_S) as group:
        _, resumed = run(Trainer(**again, group=group), 3, start=2, current=half)
    assert apart(whole, resumed) < 1e-4


def test_noise_on_the_update_is_that_of_the_sites_own_process():
    found, _ = rounds(what(toys.Plain(), rounds=1), 2, UpdateDP(8, clip=0.1))
    assert found[0].epsilon == pytest.approx(8, rel=0.01)
    assert found[0].losses == {}


def test_nobody_outside_of_the_machine_or_of_the_user_can_reach_them():
    before = torch.get_num_threads()
    with shared(what(toys.Plain()), None, 2, STALL_S) as group:
        assert not group.folder.exists(), "what they have found each other by is gone"
        for process in [psutil.Process(), *children()]:
            listening = [c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
            assert set(listening) <= {"127.0.0.1"}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("processes", "n", "changes", "size"),
    [(1, 10, {}, None), (9, 3, {}, 3), (2, 1, {}, None), (4, 10, {"accumulate": 2}, 2), (3, 10, {"batch": 2}, 2)],
)
def test_no_more_processes_are_started_than_a_batch_has_images_for(monkeypatch, processes, n, changes, size):
    started = []

    class Counted:
        def __init__(self, size, stall_s, what):
            started.append(size)

        def close(self):
            started.append("closed")

    monkeypatch.setattr("fedsynth.training.group.Leader", Counted)
    with shared(what(toys.Plain(), n=n, **changes), None, processes, STALL_S) as group:
        assert (group is None) == (size is None)
    assert started == ([] if size is None else [size, "closed"])


def test_a_mechanism_that_protects_each_step_refuses_several_processes():
    with pytest.raises(GroupError, match="FEDSYNTH_PROCESSES=2, and DPSGD") as error:
        rounds(what(toys.Plain()), 2, DPSGD(8))
    assert failures.word(error.value) == "settings"
    with shared(what(toys.Plain()), DPSGD(8), 1, STALL_S) as group:
        assert group is None


@pytest.mark.parametrize("cls", FAMILIES, ids=lambda c: c.__name__)
def test_every_family_can_be_sent_to_another_process(cls):
    family = make(cls, (16, 16), 1)
    sent = pickle.loads(pickle.dumps(family))
    x, y, given = torch.rand(3, 2, 16, 16), torch.arange(3), torch.rand(3, 1, 16, 16)
    for player in family.players():
        losses = []
        for of in (family, sent):
            torch.manual_seed(1)
            losses.append(float(of.loss(player, x, y, given).detach()))
        assert losses[0] == losses[1]
