"""Batches that are made ahead of the step that takes them, and taken in parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from fedsynth.training.group import Group

Batch = tuple[Tensor, Tensor, Tensor | None]  # images (B, C, *S), labels (B,), given channels (B, G, *S)


def ahead(made: Iterator[Batch], n: int = 2) -> Iterator[Batch]:
    """Yield what `made` yields; a thread makes the next `n` meanwhile, in the same order."""
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(next, made, None) for _ in range(n))
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, made, None))
            yield batch


def parts(batch: Batch, accumulate: int, group: Group | None, seed: list[int]) -> Iterator[tuple[Batch, float]]:
    """Yield this process's parts of a batch, each with its share of the batch's images.

    Every process of `group` takes `accumulate` parts; none is yielded without images. A batch of one part is as it is.
    The random numbers of each of several come from a seed of its own (`seed` and its place), so that it does not matter
    which process takes it.
    """
    size, rank = (group.size, group.rank) if group is not None else (1, 0)
    of = accumulate * size
    if of == 1:
        yield batch, 1.0
        return
    x, y = (all_of.tensor_split(of) for all_of in batch[:2])
    given = None if batch[2] is None else batch[2].tensor_split(of)
    for place in range(rank * accumulate, (rank + 1) * accumulate):
        torch.manual_seed(int(np.random.SeedSequence([*seed, place]).generate_state(1, np.uint64)[0]))
        if len(y[place]):
            yield (x[place], y[place], None if given is None else given[place]), len(y[place]) / len(batch[1])
