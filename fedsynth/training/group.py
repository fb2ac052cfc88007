"""Several processes of a site that train together, each on its share of every batch (FEDSYNTH_PROCESSES).

All are the same training: they draw the same batches and take the same steps, with the sum of their gradients. The
first is the site's own. It starts the others (rank.py), tells them the rounds and alone keeps state and answers.
"""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from fedsynth.errors import UserError
from fedsynth.networks import device
from fedsynth.params import Training
from fedsynth.privacy import Mechanism
from fedsynth.processes import threads
from fedsynth.settings import PLACE, place

PATIENCE_S = 10.0  # seconds in which a process that is no longer needed, or that has failed, ends


class GroupError(UserError):
    """A training cannot be shared by several processes."""


class RankDied(UserError):
    """One of the processes that train together has ended; the message has what it said last."""


class Group:
    """Process `rank` (from 0) of `size`. `folder`: private to them; `stall_s`: seconds to wait for another one."""

    def __init__(self, rank: int, size: int, folder: Path, stall_s: float):
        self.rank, self.size, self.folder, self.stall_s = rank, size, folder, stall_s

    _sums: Any  # torch's group of processes

    def join(self) -> None:
        """Connect all processes, on this machine's loopback; they find each other by a file in the folder."""
        store, wait = dist.FileStore(str(self.folder / "store"), self.size), timedelta(seconds=self.stall_s)
        if device.apart(self.size):
            of_gpus = dist.ProcessGroupNCCL.Options()
            of_gpus._timeout = wait
            self._sums = dist.ProcessGroupNCCL(store, self.rank, self.size, of_gpus)
        else:
            options = dist.ProcessGroupGloo._Options()  # type: ignore[attr-defined]  # torch's stub has no Gloo options
            options._devices, options._timeout = [dist.ProcessGroupGloo.create_device(hostname="127.0.0.1")], wait
            self._sums = dist.ProcessGroupGloo(store, self.rank, self.size, options)
        self._sum(torch.zeros(1, device=device.device()))  # from here on each knows all others

    def begin(
        self, incoming: Mapping[str, np.ndarray], number: int, frozen: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Start a round (Trainer.round) in the other processes."""

    def add(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> None:
        """Put into gradients and loss (a scalar) the sums over all processes, the same bits in each."""
        own = [p for p in parameters if p.grad is not None]
        flat = torch.cat([*(p.grad.flatten() for p in own), loss.reshape(1)])  # type: ignore[union-attr]
        self._sum(flat)
        for p, of in zip(own, flat.split([*(p.numel() for p in own), 1]), strict=False):
            p.grad = of.view_as(p)
        loss.copy_(flat[-1])

    def _sum(self, flat: Tensor) -> None:
        self._sums.allreduce([flat]).wait()


class Leader(Group):
    """The site's own process, which starts the others with a Trainer's arguments `what` and ends them."""

    def __init__(self, size: int, stall_s: float, what: dict[str, Any]):
        super().__init__(0, size, Path(tempfile.mkdtemp(prefix="fedsynth-group-")), stall_s)
        self._threads = torch.get_num_threads()
        self._logs = [tempfile.TemporaryFile() for _ in range(1, size)]  # noqa: SIM115  # closed by `close`
        self._others: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(1, size):
                self._others.append(self._start(rank))
            for other in self._others:
                self._tell(other, {name: _plain(value) for name, value in what.items()})
            for other in self._others:
                if not other.stdout.readline():  # type: ignore[union-attr]
                    raise self._died()
            torch.set_num_threads(int(threads(size)))
            self.join()
            shutil.rmtree(self.folder)  # nothing is left on the disk of a process that is killed
        except BaseException:
            self.close()
            raise

    def _start(self, rank: int) -> subprocess.Popen[bytes]:
        each = threads(self.size)
        here = str(place() + rank)
        environment = os.environ | {"OMP_NUM_THREADS": each, "MKL_NUM_THREADS": each, PLACE: here}
        command = [sys.executable, "-m", "fedsynth.training.rank", str(rank), str(self.size), str(self.folder)]
        return subprocess.Popen(
            [*command, str(self.stall_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._logs[rank - 1],
            env=environment,
        )

    def begin(
        self, incoming: Mapping[str, np.ndarray], number: int, frozen: Mapping[str, np.ndarray] | None = None
    ) -> None:
        for other in self._others:
            self._tell(other, (dict(incoming), number, dict(frozen or {})))

    def _tell(self, other: subprocess.Popen[bytes], what: Any) -> None:
        try:
            pickle.dump(what, other.stdin, pickle.HIGHEST_PROTOCOL)  # type: ignore[arg-type]
            other.stdin.flush()  # type: ignore[union-attr]
        except OSError as error:
            raise self._died() from error

    def _sum(self, flat: Tensor) -> None:
        try:
            super()._sum(flat)
        except RuntimeError as error:
            raise self._died() from error

    def _died(self) -> RankDied:
        """Returns the error that names the first process that has ended, and why."""
        until = time.monotonic() + PATIENCE_S
        while (ended := self._ended()) is None and time.monotonic() < until:
            time.sleep(0.05)
        if ended is None:
            return RankDied(f"a process of the {self.size} that train together has not answered for {self.stall_s:g} s")
        rank, code = ended
        self._logs[rank - 1].seek(0)
        lines = self._logs[rank - 1].read().decode(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        how = f"was killed by signal {-code} (out of memory?)" if code < 0 else f"ended with exit code {code}"
        said = f": {last.strip()}" if last else ""
        return RankDied(f"process {rank + 1} of the {self.size} that train together (FEDSYNTH_PROCESSES) {how}{said}")

    def _ended(self) -> tuple[int, int] | None:
        """Returns rank and exit code of a process that has ended, first of one that was killed."""
        codes = [(rank, code) for rank, of in enumerate(self._others, 1) if (code := of.poll()) is not None]
        return min(codes, key=lambda of: of[1], default=None)

    def close(self) -> None:
        """End the other processes; one that does not end by itself is killed."""
        until = time.monotonic() + PATIENCE_S
        for other in self._others:
            with suppress(OSError):  # what it was told last is still in the pipe of one that has died
                other.stdin.close()  # type: ignore[union-attr]
        for other in self._others:
            try:
                other.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                other.kill()
                other.wait()
            other.stdout.close()  # type: ignore[union-attr]
        for log in self._logs:
            log.close()
        torch.set_num_threads(self._threads)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def shared(what: dict[str, Any], mechanism: Mechanism | None, processes: int, stall_s: float) -> Iterator[Group | None]:
    """Yield the group of processes for a Trainer's arguments `what`, None where one process trains.

    No more are started than a batch has images for. Raises GroupError for a mechanism that protects each step.
    """
    training: Training = what["training"]
    size = min(processes, min(training.batch, len(what["x"])) // training.accumulate)
    if processes > 1 and mechanism is not None and mechanism.at_steps:
        raise GroupError(
            f"FEDSYNTH_PROCESSES={processes}, and {type(mechanism).__name__} draws batches and noise in one process;"
            " unset FEDSYNTH_PROCESSES for this training"
        )
    if size < 2:
        yield None
        return
    leader = Leader(size, stall_s, what)
    try:
        yield leader
    finally:
        leader.close()


def _plain(value: Any) -> Any:
    """Returns a tensor as an array, which is written to a pipe without a copy."""
    return value.numpy() if isinstance(value, Tensor) else value
