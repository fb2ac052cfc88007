"""What is left of a run: of what runs the rest, of what waits the whole, and nothing where a time is unknown."""

from __future__ import annotations

import pytest

from fedsynth.stages.plan import Line, Plan
from flows import left


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    monkeypatch.setattr(left, "time", clock := Clock())
    return clock


def of(**seconds: float | None) -> left.Left:
    """Of stages one after the other."""
    names = list(seconds)
    waits_for = {name: names[:n] for n, name in enumerate(names)}
    return left.Left(Plan([Line(name, ["x"], seconds[name]) for name in names], waits_for))


def test_a_stage_that_runs_is_left_with_its_rest_and_one_that_takes_longer_with_nothing(clock):
    run = of(a=10.0, b=20.0)
    assert run.words() == "about 30 s left"
    run.start("a")
    clock.now = 4
    assert run.words() == "about 26 s left"
    clock.now = 15
    assert run.words() == "about 20 s left"
    run.end("a")
    assert run.words() == "about 20 s left"
    run.start("b")
    run.end("b")
    assert run.words() == ""


def test_what_a_training_says_of_itself_replaces_what_was_expected(clock):
    run = of(a=10.0, b=20.0)
    run.start("a")
    run.round("a", None)  # of the first round nothing is known
    assert run.words() == "about 30 s left"
    run.round("a", 100.0)
    clock.now = 30
    assert run.words() == "about 1 min 30 s left"


def test_a_time_that_is_unknown_is_not_told_until_its_stage_has_ended(clock):
    run = of(a=None, b=20.0)
    assert run.words() == ""
    run.start("a")
    assert run.words() == ""
    run.round("a", 5.0)
    assert run.words() == "about 25 s left"
    run.end("a")
    assert run.words() == "about 20 s left"


def test_a_second_try_takes_as_long_again(clock):
    run = of(a=10.0)
    run.start("a")
    clock.now = 8
    run.end("a")
    assert run.words() == ""
    run.start("a")
    assert run.words() == "about 10 s left"
