"""Small trainings are faster on one thread: a fixture that test files give a scope."""

from collections.abc import Iterator

import torch


def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
