"""The global weights of a training begin where they must, and move as trainings move them."""

from __future__ import annotations

import numpy as np
import pytest

from fedsynth.hospital.policy import PolicyError
from fedsynth.hospital.policy.drift import Drift
from fedsynth.hospital.policy.model import Floors

W = {"a": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), "b": np.zeros(2, np.float32)}
STEP = {name: np.full_like(a, 0.1) for name, a in W.items()}


def moved(times: float) -> dict[str, np.ndarray]:
    return {name: a + times * STEP[name] for name, a in W.items()}


@pytest.fixture
def drift(tmp_path) -> Drift:
    return Drift(Floors(), tmp_path / "train" / "k.global.safetensors", lambda: W, 0.5)


def again(drift: Drift) -> Drift:
    """The same training in another job."""
    return Drift(drift.floors, drift.path, drift.initial, drift.step)


def refused(drift: Drift, incoming, number: int) -> str:
    with pytest.raises(PolicyError) as error:
        drift.hold(incoming, number)
    return error.value.rule


def test_the_first_round_begins_with_the_weights_of_the_seed(drift):
    drift.hold(W, 0)
    again(drift).hold({name: a.astype(np.float16).astype(np.float32) for name, a in W.items()}, 0)
    again(drift).hold({"a": W["a"]}, 0)  # FedBN sends some


@pytest.mark.parametrize("harm", ["scaled", "one number", "another name", "another shape", "nan"])
def test_crafted_weights_are_refused_in_the_first_round(drift, harm):
    bad = {name: a.copy() for name, a in W.items()}
    if harm == "scaled":
        bad["a"] *= 1.1
    elif harm == "one number":
        bad["b"][0] = 1e9
    elif harm == "another name":
        bad["c"] = bad.pop("b")
    elif harm == "another shape":
        bad["a"] = bad["a"].T
    else:
        bad["a"][0, 0] = np.nan
    assert refused(drift, bad, 0) == "floors.start"


def test_weights_move_as_trainings_move_them(drift):
    drift.sent(W, STEP, 0)
    for times in (0.5, 1, 5, 9):
        again(drift).hold(moved(times), 1)
    assert refused(again(drift), moved(11), 1) == "floors.moved"
    assert refused(again(drift), {name: a * np.nan for name, a in W.items()}, 1) == "floors.moved"
    again(drift).hold(moved(19), 2)  # a round was missed: twice as far


@pytest.mark.parametrize("number", [5, 100, 10**6])
def test_a_round_number_of_the_centre_widens_the_bound_by_a_few_rounds_at_most(drift, number):
    assert refused(again(drift), {name: a + 1 for name, a in W.items()}, number) == "floors.late"
    drift.sent(W, STEP, 0)
    again(drift).hold(moved(29), number)
    assert refused(again(drift), moved(31), number) == "floors.moved"


def test_one_job_asks_each_round_once_and_forward(drift):
    drift.hold(W, 0)
    drift.sent(W, STEP, 0)
    drift.hold(moved(1), 1)
    for number in (0, 1):
        assert refused(drift, W, number) == "floors.moved"
    again(drift).hold(W, 0)  # the next job may begin anew


def test_what_is_not_trained_does_not_move_between_rounds(drift):
    drift.sent(W, STEP, 0)
    drift.hold(moved(1) | {"b": W["b"]}, 1, ["b"])
    again(drift).hold(moved(1), 1)  # where it is trained
    with pytest.raises(PolicyError, match=r"floors\.moved: weights that are not trained"):
        again(drift).hold(moved(1), 1, ["b"])


def test_what_was_seen_outlives_the_job(drift, tmp_path):
    drift.sent(W, STEP, 0)
    drift.sent(moved(1), {name: 0.01 * a for name, a in STEP.items()}, 1)
    later = Drift(Floors(), drift.path, lambda: pytest.fail("not needed"), 0.5)
    later.hold(moved(10), 2)  # the largest difference counts, not the last
    assert refused(again(later), moved(13), 2) == "floors.moved"


def test_a_site_that_joins_late_knows_nothing_of_the_weights_and_refuses(drift):
    assert refused(drift, moved(1), 1) == "floors.late"


def test_where_a_hospital_lets_it_join_late_the_bound_is_what_rounds_can_move(drift):
    drift.floors = Floors(late=True)
    drift.hold(moved(1), 1)
    assert refused(again(drift), {name: a + 100 for name, a in W.items()}, 1) == "floors.moved"


def test_a_training_that_begins_anew_forgets_the_one_before(drift):
    drift.sent(W, {name: 1e6 * a for name, a in STEP.items()}, 0)
    drift.sent(W, STEP, 0)
    assert refused(drift, moved(30), 1) == "floors.moved"


def test_a_hospital_may_leave_both_out(tmp_path):
    free = Drift(Floors(start=False, moved=None), tmp_path / "k", lambda: W, 0.5)
    free.hold({name: a * 1e9 for name, a in W.items()}, 0)
    free.hold({name: a * 1e9 for name, a in W.items()}, 3)
