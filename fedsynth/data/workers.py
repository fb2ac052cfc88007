"""Work that is done in several processes, with its results in the order of the tasks."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from fedsynth.errors import UserError

SOON_S = 0.5  # what is done sooner starts no processes
AHEAD = 4  # tasks of each process that may be begun before their turn
HELD = 2**28  # bytes of results that wait for their turn, beyond which only the process whose turn it is goes on
Task = TypeVar("Task")
Result = TypeVar("Result")


class KilledError(UserError):
    """A process ended without an answer; the message says how. `task`: what it was doing."""

    def __init__(self, task: Any, code: int | None):
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        super().__init__(f"a process was ended from outside ({how}; for want of memory, perhaps)")
        self.task = task


def mapped(work: Callable[[Task], Iterator[Result]], tasks: Iterable[Task], processes: int) -> Generator[Result]:
    """Yield what `work` yields of each task, in the order of the tasks, as one process would.

    The first tasks are done here, until `SOON_S` have passed; then processes are forked. They know what
    this one knows: `work` need not be pickled, its results must. An exception comes in its turn. Raises KilledError.
    """
    begun, left = time.monotonic(), iter(tasks)
    for task in left:
        yield from work(task)
        if processes > 1 and time.monotonic() - begun > SOON_S:
            break
    else:
        return
    yield from _Workers(work, left, processes).results()


@dataclass
class _Begun:
    """A task that was given to a process: its results that have come, pickled, and whether all have."""

    task: Any
    came: deque[bytes] = field(default_factory=deque)
    all: bool = False


class _Workers:
    def __init__(self, work: Callable[[Any], Iterator[Any]], tasks: Iterator[Any], n: int):
        self.work, self.tasks, self.n = work, tasks, n
        self.processes: dict[Connection, BaseProcess] = {}
        self.busy: dict[Connection, _Begun] = {}
        self.free: list[Connection] = []
        self.turns: deque[_Begun] = deque()
        self.held = 0

    def results(self) -> Iterator[Any]:
        try:
            self._start()
            while self._hand_out():
                first = self.turns[0]
                while first.came:
                    self.held -= len(first.came[0])
                    yield _opened(first.came.popleft())
                if first.all:
                    self.turns.popleft()
                else:
                    self._receive(first)
        finally:
            self._end()

    def _start(self) -> None:
        context: Any = multiprocessing.get_context("fork")
        for _ in range(self.n):
            ours, theirs = context.Pipe()
            others = [*self.processes, ours]  # the process must not hold these open: it ends where ours is closed
            process = context.Process(target=_serve, args=(self.work, theirs, others), daemon=True)
            process.start()
            theirs.close()
            self.processes[ours] = process
            self.free.append(ours)

    def _hand_out(self) -> bool:
        """Give tasks to the processes that have none. Returns whether any is left to wait for."""
        while self.free and len(self.turns) < AHEAD * self.n:
            for task in self.tasks:
                connection = self.free.pop()
                try:
                    connection.send(task)
                except OSError as error:
                    raise self._killed(connection, task) from error
                self.busy[connection] = _Begun(task)
                self.turns.append(self.busy[connection])
                break
            else:
                break
        return bool(self.turns)

    def _receive(self, first: _Begun) -> None:
        """Take in what has come; of the process whose turn it is alone, where much waits already."""
        heard = [c for c, begun in self.busy.items() if begun is first or self.held < HELD]
        for connection in wait(heard):
            assert isinstance(connection, Connection)
            begun = self.busy[connection]
            try:
                message = connection.recv_bytes()
            except (EOFError, OSError) as error:
                raise self._killed(connection, begun.task) from error
            if message:
                begun.came.append(message)
                self.held += len(message)
            else:
                begun.all = True
                self.free.append(connection)
                del self.busy[connection]

    def _killed(self, connection: Connection, task: Any) -> KilledError:
        process = self.processes[connection]
        process.join()
        return KilledError(task, process.exitcode)

    def _end(self) -> None:
        for connection, process in self.processes.items():
            connection.close()
            process.terminate()
        for process in self.processes.values():
            process.join()


def _serve(work: Callable[[Any], Iterator[Any]], connection: Connection, others: list[Connection]) -> None:
    """Do tasks until there are no more. A message for each result, an empty one after the last of a task."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the process that waits for this one ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in others:
        other.close()
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # its other threads are not in a forked process, and would be waited for
    try:
        while True:
            for message in _messages(work, connection.recv()):
                connection.send_bytes(message)
    except (EOFError, OSError):  # no more tasks, or nobody is there who waits
        return


def _messages(work: Callable[[Any], Iterator[Any]], task: Any) -> Iterator[bytes]:
    try:
        for result in work(task):
            yield pickle.dumps((True, result), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        yield _of_error(error)
    yield b""


def _of_error(error: Exception) -> bytes:
    """The exception, or one that says as much where it is of a kind that cannot be sent."""
    try:
        message = pickle.dumps((False, error))
        pickle.loads(message)
    except Exception:
        kind = UserError if isinstance(error, UserError) else RuntimeError
        message = pickle.dumps((False, kind(str(error) if kind is UserError else repr(error))))
    return message


def _opened(message: bytes) -> Any:
    good, result = pickle.loads(message)
    if not good:
        raise result
    return result
