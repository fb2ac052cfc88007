"""The image sizes that a network accepts, found on torch's meta device, where tensors have no data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from math import prod
from typing import Any, ClassVar

import torch
from torch.overrides import TorchFunctionMode

from fedsynth.params.problems import Problem

Size = tuple[int, ...]  # (H, W) or (D, H, W)
Trial = Callable[[Size], object]  # builds a block for a size and applies it to two images; raises if it cannot

EASY = (96, 192)  # sizes that most networks accept: they can be halved 5 and 6 times, and divided by 3
WIDE = 64  # a size well above the smallest that networks accept
MOST = 64  # the largest multiple that is tried
FEW = 2**18  # maximum number of pixels for a trial with data


class Sizes:
    """The problems of networks with `image.size`; networks with the same requirement are one problem."""

    def __init__(self, size: Sequence[int]):
        self.size: Size = tuple(size)
        self.found: dict[str, list[str]] = {}

    def problems(self) -> list[Problem]:
        named = {what: ("each" if names[1:] else "the", ", ".join(names)) for what, names in self.found.items()}
        said = [f"{which} network of {names} {what}" for what, (which, names) in named.items()]
        return [Problem("image.size", list(self.size), text) for text in said]

    def error(self, name: str, trial: Trial) -> Exception | None:
        """Return an error of the block `name` that is not due to the size, else None.

        Errors due to the size are in `problems`.
        """
        error = tried(trial, self.size)
        if error is None:
            return None
        if not any(tried(trial, (n,) * len(self.size)) is None for n in EASY):
            return self._in_numbers(trial)
        what = asked(trial, self.size, error)
        self.found[what] = [*self.found.get(what, []), name]
        return None

    def _in_numbers(self, trial: Trial) -> Exception | None:
        """Repeat the trial with data, because a block that fails for every size may need values of tensors."""
        sizes = [self.size] if prod(self.size) <= FEW else [(n,) * len(self.size) for n in (32, 64)]
        errors = [tried(trial, size, "cpu") for size in sizes]
        return None if None in errors else errors[0]


class Shapes(TorchFunctionMode):
    """Returns constants for the values of meta tensors, and their type by name: only shapes matter here."""

    NUMBERS: ClassVar[dict[Any, Any]] = {
        torch.Tensor.item: 1,
        torch.Tensor.__bool__: True,
        torch.Tensor.__float__: 1.0,
        torch.Tensor.__int__: 1,
    }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.NUMBERS:
            return self.NUMBERS[func]
        if func is torch.Tensor.type and not kwargs:
            return "torch.FloatTensor" if len(args) == 1 else args[0]
        return func(*args, **(kwargs or {}))


def tried(trial: Trial, size: Size, device: str = "meta") -> Exception | None:
    """Return the exception of a trial, None if it succeeds. The random state of the caller is kept."""
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.device(device))
        if device == "meta":
            stack.enter_context(Shapes())
        try:
            trial(size)
        except Exception as error:  # networks raise any exception for a size that they do not accept
            return error
    return None


def asked(trial: Trial, size: Size, error: Exception) -> str:
    """Return the sentence "takes sizes that are multiples of 8; the nearest to [30, 30] are [24, 24] and [32, 32]"."""
    steps = multiples(trial, len(size))
    near = [list(n) for n in (_below(trial, size, steps), _above(trial, size, steps)) if n]
    if not near:
        return f"does not take {list(size)}: {error}"
    which = f"the nearest to {list(size)} {'are' if near[1:] else 'is'} {' and '.join(map(str, near))}"
    if all(n % step == 0 for n, step in zip(size, steps, strict=True)):
        return f"does not take {list(size)}, which is too small; {which}"
    of = str(steps[0]) if len(set(steps)) == 1 else f"{', '.join(map(str, steps))} along its axes"
    return f"takes sizes that are multiples of {of}; {which}"


def multiples(trial: Trial, axes: int) -> list[int]:
    """Return the number of which each axis must be a multiple; 1 for any size, or if none is found.

    A network accepts two consecutive multiples of m only if m is a multiple of this number.
    """

    def takes(m: int, others: int, axis: int | None) -> bool:
        start, rest = -(-WIDE // m) * m, -(-WIDE // others) * others
        sizes = [tuple(n if axis in (None, a) else rest for a in range(axes)) for n in (start + m, start)]
        return all(tried(trial, size) is None for size in sizes)

    joint = next((m for m in range(1, MOST + 1) if takes(m, m, None)), 1)
    divisors = [m for m in range(1, joint + 1) if joint % m == 0]
    return [next((m for m in divisors if takes(m, joint, axis)), joint) for axis in range(axes)]


def _below(trial: Trial, size: Size, steps: list[int]) -> Size | None:
    found = tuple(n // step * step for n, step in zip(size, steps, strict=True))
    return found if min(found) > 0 and tried(trial, found) is None else None


def _above(trial: Trial, size: Size, steps: list[int]) -> Size | None:
    """Return the next multiples; if they are too small, the smallest axis is increased."""
    found = [-(-n // step) * step for n, step in zip(size, steps, strict=True)]
    for _ in range(MOST):
        if tried(trial, tuple(found)) is None:
            return tuple(found)
        axis = found.index(min(found))
        found[axis] += steps[axis]
    return None
