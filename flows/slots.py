"""A semaphore with priorities for stages that run at the same time."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

GATHER_S = 0.3  # seconds to wait, so that stages that become ready together are ordered


class Slots:
    """A semaphore of `n` slots with an order of waiting.

    The lowest `priority` goes first; equal ones go in the order of arrival.
    """

    def __init__(self, n: int):
        self._free, self._waiting = n, []
        self._arrival = itertools.count()
        self._changed = threading.Condition()

    @contextmanager
    def take(self, priority: int) -> Iterator[None]:
        me = (priority, next(self._arrival))
        with self._changed:
            heapq.heappush(self._waiting, me)
        time.sleep(GATHER_S)
        with self._changed:
            self._changed.wait_for(lambda: self._free > 0 and self._waiting[0] == me)
            heapq.heappop(self._waiting)
            self._free -= 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()
