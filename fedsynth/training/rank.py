"""A further process of a site's training (group.py), as a program: RANK SIZE FOLDER SECONDS.

From its standard input come a Trainer's arguments and then, round by round, the global parameters; with their end it
ends.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from fedsynth.training.group import Group
from fedsynth.training.trainer import Trainer


def main(rank: str, size: str, folder: str, stall_s: str) -> None:
    told = _told(sys.stdin.buffer)
    what = next(told)
    print("ready", flush=True)
    sys.stdout = sys.stderr  # nobody reads it from here on
    group = Group(int(rank), int(size), Path(folder), float(stall_s))
    group.join()
    trainer = Trainer(**{name: _tensor(value) for name, value in what.items()}, group=group)
    for incoming, number, frozen in told:
        trainer.round(incoming, number, frozen)


def _told(stream: BinaryIO) -> Iterator[Any]:
    """Yield what the site's own process says, until it closes the pipe or is gone."""
    while True:
        try:
            yield pickle.load(stream)
        except EOFError:
            return


def _tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


if __name__ == "__main__":
    main(*sys.argv[1:])
