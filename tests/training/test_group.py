"""Several processes that train together are one training: two of them come to what one does with the same batches."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

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
from fedsynth.training.group import GroupError, RankDied, shared
from fedsynth.training.trainer import Trainer
from tests import toys
from tests.contracts.test_families import FAMILIES, make
from tests.training.test_trainer import initial, run

STALL_S = 60.0


class Plain(toys.Toy):
    """Nothing is left to chance."""

    def loss(self, player, x, y, given):
        sign = 1 if player == "first" else -1
        return (getattr(self, player)(x + y.reshape(-1, 1, 1, 1)) - sign * x).square().mean()


class Failing(toys.Toy):
    """Fails in every process but the site's own."""

    def __init__(self):
        super().__init__()
        self.home = os.getpid()

    def loss(self, player, x, y, given):
        if os.getpid() != self.home:
            raise MemoryError("no room for 4 GB")
        return super().loss(player, x, y, given)


class Slow(toys.Toy):
    def loss(self, player, x, y, given):
        time.sleep(0.2)
        return super().loss(player, x, y, given)


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
    (one, alone), (both, together) = (rounds(what(Plain(), Scaffold()), n) for n in (1, 2))
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
    _, whole = rounds(what(Plain(), Scaffold()), 1)
    first = what(Plain(), Scaffold()) | {"x": stored, "state": folder / "state.pt"}
    with shared(first, None, 2, STALL_S) as group:
        _, half = run(Trainer(**first, group=group), 2)
    assert {of.name for of in folder.iterdir()} == {"images.npy", "state.pt"}
    again = what(Plain(), Scaffold()) | {"x": stored, "state": folder / "state.pt", "seed": 5}
    with shared(again, None, 2, STALL_S) as group:
        _, resumed = run(Trainer(**again, group=group), 3, start=2, current=half)
    assert apart(whole, resumed) < 1e-4


def test_noise_on_the_update_is_that_of_the_sites_own_process():
    found, _ = rounds(what(Plain(), rounds=1), 2, UpdateDP(8, clip=0.1))
    assert found[0].epsilon == pytest.approx(8, rel=0.01)
    assert found[0].losses == {}


def test_a_process_that_is_killed_ends_the_round_within_seconds_and_leaves_none_behind():
    made = what(Slow(), local_steps=200)
    with shared(made, None, 2, STALL_S) as group:
        (other,) = children()
        threading.Timer(1.5, lambda: os.kill(other.pid, signal.SIGKILL)).start()
        began = time.monotonic()
        with pytest.raises(RankDied) as error:
            a_round(made, group)
    assert time.monotonic() - began < 1.5 + 15
    assert "process 2 of the 2 that train together" in str(error.value)
    assert "was killed by signal 9 (out of memory?)" in str(error.value)
    assert failures.word(error.value) == "rank"
    assert children() == []


def a_round(made, group):
    t = Trainer(**made, group=group)
    t.round(initial(t), 0)


def test_what_a_process_fails_of_is_said():
    with pytest.raises(RankDied) as error:
        rounds(what(Failing()), 2)
    assert str(error.value).endswith("ended with exit code 1: MemoryError: no room for 4 GB")
    assert children() == []


def test_what_cannot_start_is_said_and_nothing_is_left(monkeypatch):
    monkeypatch.setattr("fedsynth.training.group.Leader._tell", lambda self, other, what: other.stdin.close())
    with pytest.raises(RankDied, match="process 2 of the 2"):
        rounds(what(Plain()), 2)
    assert children() == []


def test_when_the_sites_own_process_is_gone_so_are_the_others():
    code = (
        "import os, signal; from tests.training import test_group as t; made = t.what(t.Plain());"
        " group = t.shared(made, None, 2, 60.0); group.__enter__();"
        " print([of.pid for of in t.children()], flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    pids = json.loads(done.stdout)
    assert len(pids) == 1, done.stderr
    until = time.monotonic() + 15
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_nobody_outside_of_the_machine_or_of_the_user_can_reach_them():
    before = torch.get_num_threads()
    with shared(what(Plain()), None, 2, STALL_S) as group:
        assert os.stat(group.folder).st_mode & 0o077 == 0
        for process in [psutil.Process(), *children()]:
            listening = [c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
            assert set(listening) <= {"127.0.0.1"}
    assert not group.folder.exists()
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
    with shared(what(Plain(), n=n, **changes), None, processes, STALL_S) as group:
        assert (group is None) == (size is None)
    assert started == ([] if size is None else [size, "closed"])


def test_a_mechanism_that_protects_each_step_refuses_several_processes():
    with pytest.raises(GroupError, match="FEDSYNTH_PROCESSES=2, and DPSGD") as error:
        rounds(what(Plain()), 2, DPSGD(8))
    assert failures.word(error.value) == "settings"
    with shared(what(Plain()), DPSGD(8), 1, STALL_S) as group:
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
