"""The ledger: nothing that was spent is forgotten, whatever happens to jobs, processes and files."""

import hashlib
import json
import multiprocessing
import os
import signal
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.hospital.failures import word
from fedsynth.hospital.ledger import Ledger
from fedsynth.hospital.ledger.account import TrainingAccount
from fedsynth.privacy import PrivacyError
from fedsynth.privacy.dpsgd import DPSGD
from fedsynth.privacy.noise import Spending
from fedsynth.privacy.subject import Spent
from fedsynth.privacy.update import UpdateDP
from fedsynth.training.trainer import Trainer
from tests import toys
from tests.privacy.test_dpsgd import initial

DELTA = 1e-5
# noise, rate, steps
STEPS = (2.0, 0.1, 40)


def account(folder, key="k", rounds=3, images=1):
    return TrainingAccount(Ledger(folder), key, "vae", rounds, "d" * 64, images)


def written(folder, *steps, key="k", number=0, rounds=3, images=1, mechanism=None):
    account(folder, key, rounds, images).write(mechanism or DPSGD(8), steps or [STEPS], number, False)
    return folder / "ledger.jsonl"


def make(privacy):
    return {"dpsgd": lambda: DPSGD(8), "update": lambda: UpdateDP(8, clip=0.5)}[privacy]()


def trainer(folder, privacy="dpsgd", key="k", rounds=4, n=40, subjects=None, batch=4, epochs=1):
    training = toys.training(rounds=rounds, batch=batch, epochs=epochs)
    subjects = torch.arange(n) if subjects is None else subjects
    held = account(folder, key, rounds, int(np.bincount(subjects).max()))
    return Trainer(
        toys.Toy(), FedAvg(), training, *toys.images(0, n), None, 1, folder / "train" / f"vae-{key}.pt",
        make(privacy) if isinstance(privacy, str) else privacy, subjects=subjects, account=held,
    )  # fmt: skip


def run(folder, numbers, **of):
    """A job: a process of its own would have nothing else in common with the one before."""
    t = trainer(folder, **of)
    sent = initial(t.family)
    return [t.round(sent, number) for number in numbers]


# what is written


def test_each_round_is_a_line_that_says_what_left(tmp_path):
    updates = run(tmp_path, range(4))
    entries = Ledger(tmp_path).entries
    assert [(e.key, e.model, e.round, e.rounds) for e in entries] == [("k", "vae", i, 4) for i in range(4)]
    assert {(e.unit, e.relation, e.delta, e.group, e.losses) for e in entries} == {
        ("subject", "add_remove", 1e-5, 1, False)
    }
    assert all(e.mechanism == "fedsynth.privacy.dpsgd.DPSGD" and e.at.utcoffset() == timedelta(0) for e in entries)
    assert [[steps for _, _, steps in e.spent] for e in entries] == [[10]] * 4
    assert updates[-1].epsilon == pytest.approx(7.99, abs=0.02)
    assert [u.epsilon_total for u in updates] == pytest.approx([u.epsilon for u in updates])


def test_what_a_line_holds_is_what_its_steps_cost(tmp_path):
    written(tmp_path, (2.0, 0.1, 40), (3.0, 0.2, 5), images=3, mechanism=DPSGD(8, unit="image"))
    (entry,) = Ledger(tmp_path).entries
    assert entry.group == 4
    np.testing.assert_array_equal(entry.divergences, Spent(((2.0, 0.1, 40), (3.0, 0.2, 5)), 4).divergences())
    of_other_orders = entry.model_copy(update={"rdp": [1.0]})
    np.testing.assert_array_equal(of_other_orders.divergences, entry.divergences)


def test_nothing_leaves_that_was_not_written(tmp_path, monkeypatch):
    t = trainer(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        t.round(initial(t.family), 0)
    assert not (tmp_path / "train").exists()


# composition


@pytest.fixture
def no_steps(monkeypatch):
    """Batches are drawn and counted as ever, and no gradient is computed."""
    monkeypatch.setattr(Trainer, "_step", lambda *_: None)


@pytest.mark.usefixtures("no_steps")
@pytest.mark.parametrize("privacy", ["dpsgd", "update"])
def test_two_trainings_are_one_with_twice_the_steps(tmp_path, privacy):
    for key in ("a", "b"):
        last = run(tmp_path, range(2), privacy=privacy, key=key, rounds=2)[-1]
    (noise, rate, steps), *_ = Ledger(tmp_path).entries[0].spent
    assert last.epsilon <= 8
    assert last.epsilon_total == pytest.approx(Spending([(noise, rate, 4 * steps)]).epsilon(DELTA), rel=1e-9)


@pytest.mark.usefixtures("no_steps")
def test_mechanisms_of_all_kinds_add_up_in_any_order(tmp_path):
    kinds = [("dpsgd", "a"), ("update", "b"), ("dpsgd", "c")]
    totals = [[run(tmp_path / str(i), range(4), privacy=p, key=k)[-1].epsilon_total for p, k in of]
              for i, of in enumerate((kinds, kinds[::-1]))]  # fmt: skip
    assert totals[0] == sorted(totals[0])
    assert totals[0][-1] == pytest.approx(totals[1][-1], rel=2e-3)
    every = [step for e in Ledger(tmp_path / "0").entries for step in e.spent]
    assert totals[0][-1] == pytest.approx(Spending(every).epsilon(DELTA), rel=1e-9)


@pytest.mark.usefixtures("no_steps")
@pytest.mark.parametrize(("privacy", "month"), [("dpsgd", 45), ("update", 76)])
def test_the_same_training_every_night_adds_up_over_the_month(tmp_path, privacy, month):
    """Issue 15: 45 and 76, where the gate said 8 each time. One round, 40 steps at rate 0.1."""
    updates = [run(tmp_path, [0], privacy=privacy, rounds=1, epochs=4)[0] for night in range(30)]
    assert [u.epsilon for u in updates] == pytest.approx([8] * 30, abs=0.03)
    assert updates[0].epsilon_total == pytest.approx(8, abs=0.03)
    assert updates[-1].epsilon_total == pytest.approx(month, abs=0.6)
    assert Ledger(tmp_path).epsilon(DELTA) == updates[-1].epsilon_total


@pytest.mark.usefixtures("no_steps")
@pytest.mark.parametrize(("privacy", "twice"), [("dpsgd", 10.6), ("update", 12.2)])
def test_a_first_round_that_a_new_job_does_again_is_counted(tmp_path, privacy, twice):
    """Issue 15: said 8.0, and 10.6 and 12.2 were true. Here of trainings of one round."""
    run(tmp_path, [0], privacy=privacy, rounds=1, epochs=4)
    (again,) = run(tmp_path, [0], privacy=privacy, rounds=1, epochs=4)
    assert again.epsilon_total == pytest.approx(twice, abs=0.05)


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("privacy", ["dpsgd", "update"])
def test_a_training_that_begins_anew_before_its_end_keeps_its_budget(tmp_path, privacy, lost):
    first = run(tmp_path, range(2), privacy=privacy)
    if lost:  # and what the trainer kept, too
        (tmp_path / "train" / "vae-k.pt").unlink()
    second = run(tmp_path, range(4), privacy=privacy)
    spent = [u.epsilon for u in first + second]
    assert spent == sorted(set(spent))
    assert 7.9 < spent[-1] <= 8
    noise = [e.spent[0][0] for e in Ledger(tmp_path).entries]
    assert min(noise[2:]) > max(noise[:2])  # the budget is as large as before, and more rounds share it
    assert second[-1].epsilon_total == pytest.approx(spent[-1])


@pytest.mark.parametrize("privacy", ["dpsgd", "update"])
def test_a_site_without_its_checkpoint_knows_by_the_ledger_what_it_spent(tmp_path, privacy):
    run(tmp_path, range(2), privacy=privacy)
    (tmp_path / "train" / "vae-k.pt").unlink()
    rest = run(tmp_path, (2, 3), privacy=privacy)
    assert 7.9 < rest[-1].epsilon <= 8
    assert len(Ledger(tmp_path).entries) == 4


def test_a_site_that_comes_later_has_spent_nothing_of_this_training_if_it_has_a_ledger(tmp_path):
    run(tmp_path, range(4), privacy="update", key="other")
    late = run(tmp_path, (2, 3), privacy="update")
    assert 7.9 < late[-1].epsilon <= 8
    with pytest.raises(PrivacyError, match="not known"):
        run(tmp_path / "new", (2, 3), privacy="update")  # or one that has lost everything: nobody knows


def test_an_image_as_the_unit_is_counted_for_the_subject_that_has_most(tmp_path):
    of_two = torch.arange(40) // 2
    by_image = run(tmp_path / "a", [0], privacy=DPSGD(8, unit="image"), rounds=1, subjects=of_two)[0]
    by_subject = run(tmp_path / "b", [0], privacy=DPSGD(8), rounds=1, subjects=of_two)[0]
    single = run(tmp_path / "c", [0], privacy=DPSGD(8, unit="image"), rounds=1)[0]
    assert by_image.epsilon == by_subject.epsilon == single.epsilon == pytest.approx(8, abs=0.03)
    assert by_subject.epsilon_total == single.epsilon_total == pytest.approx(8, abs=0.03)
    assert 16 < by_image.epsilon_total < 20


def test_a_tighter_accountant_holds_as_long_as_one_training_is_all_there_was(tmp_path):
    prv = lambda: DPSGD(8, accountant="prv")  # noqa: E731
    (one,) = run(tmp_path, [0], privacy=prv(), rounds=1, key="a")
    assert one.epsilon_total == one.epsilon <= 8 < Ledger(tmp_path).epsilon(DELTA)
    (two,) = run(tmp_path, [0], privacy=prv(), rounds=1, key="b")
    assert two.epsilon <= 8
    assert two.epsilon_total == Ledger(tmp_path).epsilon(DELTA) > 10


# a file that cannot be trusted; tests/hospital/test_chain.py has all that can be done to one


def refused(folder, match):
    with pytest.raises(PrivacyError, match=match) as caught:
        Ledger(folder)
    assert word(caught.value) == "privacy"
    assert "backup" in str(caught.value)  # what to do


def many(folder, n=5):
    for i in range(n):
        path = written(folder, number=i, rounds=n)
    return path, path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("change", [(b'"round": ', b'"round": 1'), (b"2.0", b"9.0"), (b'"vae"', b'"gan"')])
def test_no_line_can_be_edited(tmp_path, place, change):
    path, lines = many(tmp_path)
    assert change[0] in lines[place]
    lines[place] = lines[place].replace(*change, 1)
    path.write_bytes(b"".join(lines))
    refused(tmp_path, "was changed")
    with pytest.raises(PrivacyError, match="cannot be trusted"):
        written(tmp_path)


@pytest.mark.parametrize("left", [[0, 1, 2, 3], [0, 1], [], [1, 2, 3, 4], [0, 2, 3, 4], [0, 2, 1, 3, 4]])
def test_no_line_can_go_or_change_its_place(tmp_path, left):
    path, lines = many(tmp_path)
    path.write_bytes(b"".join(lines[i] for i in left))
    refused(tmp_path, "lines are lost")


@pytest.mark.parametrize("cut", [1, 2, 70, 5000])
def test_no_end_can_be_cut_off(tmp_path, cut):
    path, _ = many(tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    refused(tmp_path, "lines are lost")


@pytest.mark.parametrize("name", ["ledger.jsonl", "ledger.jsonl.end"])
def test_neither_file_can_be_lost(tmp_path, name):
    many(tmp_path)
    (tmp_path / name).unlink()
    refused(tmp_path, "lines are lost")


@pytest.mark.parametrize("gone", [False, True])
def test_a_ledger_that_is_shortened_or_lost_while_a_training_runs_ends_it(tmp_path, gone):
    t = trainer(tmp_path)
    t.round(initial(t.family), 0)
    path = tmp_path / "ledger.jsonl"
    path.unlink() if gone else path.write_bytes(b"")
    with pytest.raises(PrivacyError, match="lines are lost"):
        t.round(initial(t.family), 1)


def test_where_both_are_lost_the_trainings_that_were_kept_say_so(tmp_path):
    run(tmp_path, range(2))
    for name in ("ledger.jsonl", "ledger.jsonl.end"):
        (tmp_path / name).unlink()
    refused(tmp_path, r"there is no ledger .*vae-k\.pt says that a training has spent")
    (tmp_path / "train" / "vae-k.pt").unlink()
    assert Ledger(tmp_path).epsilon(DELTA) == 0


@pytest.mark.parametrize("number", [0, 3])
def test_an_older_backup_of_both_files_is_seen_by_the_training_that_has_spent_more(tmp_path, number):
    run(tmp_path, range(2))
    old = {name: (tmp_path / name).read_bytes() for name in ("ledger.jsonl", "ledger.jsonl.end")}
    run(tmp_path, (2,))
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PrivacyError, match="knows of 20 steps of training k, its kept state of 30"):
        run(tmp_path, [number])


def test_a_plain_training_that_was_kept_does_not_ask_for_a_ledger(tmp_path):
    t = Trainer(toys.Toy(), FedAvg(), toys.training(), *toys.images(0), None, 1, tmp_path / "train" / "vae.pt")
    t.round(initial(t.family), 0)
    assert Ledger(tmp_path).entries == []


def test_looking_makes_no_file(tmp_path):
    assert Ledger(tmp_path / "north").epsilon(DELTA) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_line_of_another_version_is_refused_with_what_to_do(tmp_path):
    path, lines = many(tmp_path, 1)
    newer = {name: value for name, value in json.loads(lines[0]).items() if name != "previous"} | {"something": 1}
    Ledger(tmp_path).chain.add(newer)
    with pytest.raises(PrivacyError, match=r"a line of .* install the version that wrote it"):
        Ledger(tmp_path)
    assert path.stat().st_mode & 0o077 == 0  # nobody else reads it


# processes


def _write(folder, key, n):
    for i in range(n):
        written(folder, key=key, number=i, rounds=n)


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(tmp_path, f"k{i}", 8)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    ledger = Ledger(tmp_path)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sorted((e.key, e.round) for e in ledger.entries) == [(f"k{i}", j) for i in range(3) for j in range(8)]
    assert ledger.epsilon(DELTA) == pytest.approx(Spending([(2.0, 0.1, 24 * 40)]).epsilon(DELTA))


def test_what_another_process_has_written_counts_in_this_one(tmp_path):
    mine, other = account(tmp_path, "a"), account(tmp_path, "b")
    other.write(DPSGD(8), [STEPS], 0, False)
    mine.write(DPSGD(8), [STEPS], 0, False)
    assert mine.ledger.epsilon(DELTA) == pytest.approx(Spending([STEPS, STEPS]).epsilon(DELTA))


def _dies(folder):
    t = trainer(folder)
    keep = t._keep
    t._keep = lambda: (keep(), os.kill(os.getpid(), signal.SIGKILL))
    t.round(initial(t.family), 0)


def test_a_process_that_dies_before_it_sends_has_spent(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_dies, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    updates = run(tmp_path, range(4))
    assert [e.round for e in Ledger(tmp_path).entries] == [0, 0, 1, 2, 3]
    assert 7.9 < updates[-1].epsilon <= 8


def test_a_line_that_was_written_and_not_yet_noted_counts(tmp_path):
    """A process that dies between both files: one line more than the mark says, even if it is the first."""
    for n in (0, 5):
        folder = tmp_path / str(n)
        marked = (folder / "ledger.jsonl.end") if n and many(folder, n) else None
        end = marked.read_bytes() if marked else f"0 {'0' * 64}\n".encode()
        written(folder, key="last")
        (folder / "ledger.jsonl.end").write_bytes(end)
        assert [e.key for e in Ledger(folder).entries] == ["k"] * n + ["last"]
        written(folder, key="next")
        assert len(Ledger(folder).entries) == n + 2


# a cap


def plan(folder, number=0, epsilon=8, key="new"):
    return account(folder, key, 4).plan(DPSGD(epsilon), toys.training(rounds=4), 40, number)


def test_what_is_planned_is_what_the_training_then_spends(tmp_path):
    planned = plan(tmp_path)
    run(tmp_path, range(4), key="new")
    spent = [step for e in Ledger(tmp_path).entries for step in e.spent]
    assert planned == Spent((*{(noise, rate, 40) for noise, rate, _ in spent},), 1)
    update = account(tmp_path, "update", 4).plan(UpdateDP(8, clip=1), toys.training(rounds=4), 40)
    assert update.steps[0][1:] == (1.0, 4)


def test_a_cap_refuses_with_a_sentence_what_would_exceed_it(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.allow(plan(tmp_path), 8, 30, DELTA)
    run(tmp_path, range(4), key="old")
    with pytest.raises(PrivacyError) as caught:
        ledger.allow(plan(tmp_path), 10, 30, DELTA)
    assert str(caught.value) == (
        "with this training, epsilon for one subject would be 10.6 at delta 1e-05, and at most 10 is allowed here."
        " Trainings at this site have spent 8 in the last 30 days. Ask for a smaller epsilon or fewer rounds, wait,"
        " or ask the hospital for more"
    )
    ledger.allow(plan(tmp_path), 11, 30, DELTA)
    ledger.allow(plan(tmp_path, epsilon=2), 10, 30, DELTA)
    assert len(ledger.entries) == 4  # to ask is not to spend


def test_a_training_that_goes_on_is_asked_for_its_rest_alone(tmp_path):
    """With a cap that is its own budget, a job that was ended and begun again is not refused."""
    run(tmp_path, range(2), key="new")
    ledger = Ledger(tmp_path)
    ledger.allow(plan(tmp_path, number=2), 8, 30, DELTA)
    ledger.allow(plan(tmp_path, number=0), 8, 30, DELTA)  # all four again, with what is left
    with pytest.raises(PrivacyError):
        ledger.allow(plan(tmp_path, key="another"), 8, 30, DELTA)


def test_what_lies_before_the_period_does_not_count(tmp_path, monkeypatch):
    now = datetime.now(UTC)

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return now - timedelta(days=31)

    monkeypatch.setattr("fedsynth.hospital.ledger.account.datetime", Clock)
    written(tmp_path, key="old")
    monkeypatch.undo()
    ledger = Ledger(tmp_path)
    assert ledger.epsilon(DELTA, now - timedelta(days=30)) == 0
    assert ledger.epsilon(DELTA, now - timedelta(days=32)) == ledger.epsilon(DELTA) > 0
    ledger.allow(plan(tmp_path), 8, 30, DELTA)
    for days in (32, None):
        with pytest.raises(PrivacyError, match="ever" if days is None else "32 days"):
            ledger.allow(plan(tmp_path), 8, days, DELTA)


@pytest.mark.parametrize(("cap", "days", "delta"), [(0, 30, 1e-5), (-1, 30, 1e-5), (float("nan"), 30, 1e-5),
                                                    (8, 0, 1e-5), (8, 30, 0), (8, 30, 1)])  # fmt: skip
def test_a_cap_that_makes_no_sense_allows_nothing(tmp_path, cap, days, delta):
    with pytest.raises(PrivacyError, match="makes no sense"):
        Ledger(tmp_path).allow(Spent((STEPS,)), cap, days, delta)


# what it costs


def test_with_a_thousand_lines_a_round_takes_a_fraction_of_a_second(tmp_path):
    ledger = Ledger(tmp_path)
    held, lines = TrainingAccount(ledger, "old", "vae", 1000, "d", 1), []
    held.write(DPSGD(8), [STEPS], 0, False)
    first = ledger.entries[0]

    for i in range(1000):  # as Chain.add writes them, of which each takes two syncs
        last = hashlib.sha256(lines[-1]).hexdigest() if lines else "0" * 64
        of = {"previous": last, **first.model_copy(update={"round": i}).model_dump(mode="json")}
        lines.append(json.dumps(of, sort_keys=True, ensure_ascii=False).encode())
    ledger.chain.path.write_bytes(b"\n".join([*lines, b""]))
    size = sum(len(line) + 1 for line in lines)
    ledger.chain.end.write_text(f"{size} {hashlib.sha256(lines[-1]).hexdigest()}")
    again = Ledger(tmp_path)
    assert len(again.entries) == 1000
    again.epsilon(DELTA)
    t, mechanism = TrainingAccount(again, "new", "vae", 5, "d", 1), DPSGD(8)
    took = []
    for number in range(5):
        began = time.process_time()
        t.write(mechanism, [(3.0, 0.1, 40)], number, False)
        t.epsilon(mechanism)
        took.append(time.process_time() - began)
    assert min(took) < 0.05
