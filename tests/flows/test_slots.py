"""Stages at once: never more than there are slots, and the most urgent of those that wait goes first."""

from __future__ import annotations

import threading
import time

import pytest

from flows.slots import Slots


def test_never_more_than_there_are_slots_and_the_lowest_priority_first():
    slots, lock = Slots(2), threading.Lock()
    running, most, order = 0, 0, []

    def work(priority: int) -> None:
        nonlocal running, most
        with slots.take(priority):
            with lock:
                running += 1
                most = max(most, running)
                order.append(priority)
            time.sleep(0.05)
            with lock:
                running -= 1

    threads = [threading.Thread(target=work, args=(p,)) for p in (4, 3, 2, 1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert most == 2
    assert set(order[:2]) == {0, 1}
    assert order[-1] == 4


def test_a_slot_is_free_again_after_an_error():
    slots = Slots(1)
    with pytest.raises(RuntimeError), slots.take(0):
        raise RuntimeError
    with slots.take(0):
        pass
