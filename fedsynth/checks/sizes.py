"""Which image sizes a network accepts, found on torch's meta device, where tensors have shapes but no data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from math import prod
from typing import Any, ClassVar

import torch
from torch.overrides import TorchFunctionMode

from fedsynth.params.problems import Problem

Size = tuple[int, ...]  # (H, W) or (D, H, W)
Trial = Callable[[Size], object]  # makes a block for a size and shows it two images; raises where it does not take them

EASY = (96, 192)  # sizes of every axis that most networks take: of 5 and 6 halvings, and of thirds
WIDE = 64  # far above the least that a network takes
MOST = 64  # a multiple above it is not looked for
FEW = 2**18  # pixels of an image with which a trial may be done in numbers


class Sizes:
    """What the networks of params.yaml say of `image.size`: networks that ask for the same are one problem."""

    def __init__(self, size: Sequence[int]):
        self.size: Size = tuple(size)
        self.found: dict[str, list[str]] = {}

    def problems(self) -> list[Problem]:
        named = {what: ("each" if names[1:] else "the", ", ".join(names)) for what, names in self.found.items()}
        said = [f"{which} network of {names} {what}" for what, (which, names) in named.items()]
        return [Problem("image.size", list(self.size), text) for text in said]

    def error(self, name: str, trial: Trial) -> Exception | None:
        """None where the block `name` takes this size, or another, which `problems` tells; else what is wrong."""
        error = tried(trial, self.size)
        if error is None:
            return None
        if not any(tried(trial, (n,) * len(self.size)) is None for n in EASY):
            return self._in_numbers(trial)
        what = asked(trial, self.size, error)
        self.found[what] = [*self.found.get(what, []), name]
        return None

    def _in_numbers(self, trial: Trial) -> Exception | None:
        """A block that takes no size may want numbers, which the meta device has not: those decide then."""
        sizes = [self.size] if prod(self.size) <= FEW else [(n,) * len(self.size) for n in (32, 64)]
        errors = [tried(trial, size, "cpu") for size in sizes]
        return None if None in errors else errors[0]


class Shapes(TorchFunctionMode):
    """Answers who asks a tensor of the meta device for its number or for its type by name: only shapes matter here."""

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
    """What a trial raises. Its random numbers are its own: those of the caller stay as they are."""
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.device(device))
        if device == "meta":
            stack.enter_context(Shapes())
        try:
            trial(size)
        except Exception as error:  # a network may raise anything for a shape that it cannot take
            return error
    return None


def asked(trial: Trial, size: Size, error: Exception) -> str:
    """ "takes sizes that are multiples of 8; the nearest to [30, 30] are [24, 24] and [32, 32]" """
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
    """What each axis must be a multiple of; 1 for one that may have any size, or where none is found.

    Two neighbouring multiples of m are both taken only where m is itself a multiple of what the network asks for.
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
    """The next multiples; where they are too small, the smallest axis grows."""
    found = [-(-n // step) * step for n, step in zip(size, steps, strict=True)]
    for _ in range(MOST):
        if tried(trial, tuple(found)) is None:
            return tuple(found)
        axis = found.index(min(found))
        found[axis] += steps[axis]
    return None
