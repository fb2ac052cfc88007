"""Coded exchange of parameters with error feedback, for both directions.

Up: a site sends the coded sum of its difference and of what the coding of earlier rounds left out (Karimireddy et al.
2019, arXiv:1901.09847, algorithm 2). Down: the server knows what the sites have and sends the coded rest; what is left
out of it is in the next one (as MCM: Philippenko & Dieuleveut 2021, arXiv:2102.12528). Differences are taken to what a
site has, so that both sides agree on it.

The first message down, and any to a site that may not have the one before, holds the parameters whole; so does the last
message up, which no round follows that could make up for what it leaves out. WHOLE is how those are coded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedsynth.compression import Arrays, CodingError, Compression
from fedsynth.compression.cast import Cast

Shapes = Mapping[str, tuple[int, ...]]
WHOLE = Cast("float16")


def encode(by: Compression, arrays: Arrays) -> Arrays:
    """The coded arrays of named ones, in the order of their names."""
    names = sorted(arrays)
    x = np.concatenate([arrays[name].reshape(-1).astype(np.float32) for name in names])
    return by.encode(x, [arrays[name].size for name in names])


def decode(by: Compression, coded: Mapping[str, np.ndarray], shapes: Shapes) -> Arrays:
    """Named arrays of these shapes. Raises CodingError where `coded` is not what `encode` gives of such."""
    names = sorted(shapes)
    sizes = [int(np.prod(shapes[name])) for name in names]
    fitting(by, coded, shapes)
    parts = np.split(by.decode(dict(coded), sizes), np.cumsum(sizes)[:-1])
    return {name: part.reshape(shapes[name]) for name, part in zip(names, parts, strict=True)}


def fitting(by: Compression, coded: Mapping[str, np.ndarray], shapes: Shapes) -> None:
    """Raise CodingError where the coded arrays are not of the closed form that `by` has for parameters of
    these shapes.
    """
    form = by.form([int(np.prod(shapes[name])) for name in sorted(shapes)])
    if set(coded) != set(form):
        raise CodingError(f"the coded arrays are not {', '.join(form)}")
    for name, (dtype, length) in form.items():
        array = coded[name]
        if type(array) is not np.ndarray or array.dtype != dtype or array.shape != (length,):
            raise CodingError(f"the coded {name} are not {length} numbers of {dtype}")
        if np.issubdtype(dtype, np.floating) and not np.isfinite(array).all():
            raise CodingError(f"the coded {name} hold NaN or infinite values")


class Uplink:
    """The site's half of the way up. `rest`: what the coding has left out so far;
    it must outlive a round at the site.
    """

    def __init__(self, by: Compression):
        self.by = by
        self.rest: Arrays = {}

    def encode(self, difference: Arrays, last: bool) -> tuple[Arrays, Compression]:
        """The coded arrays, and by what they were coded."""
        by = WHOLE if last else self.by
        wanted = {name: d + self.rest[name] if name in self.rest else d for name, d in difference.items()}
        coded = encode(by, wanted)
        sent = decode(by, coded, {name: d.shape for name, d in wanted.items()})
        self.rest |= {name: wanted[name] - sent[name] for name in wanted}
        return coded, by


class Downlink:
    """The server's half of the way down. `have`: the parameters as the sites have them since the last message."""

    def __init__(self, by: Compression):
        self.by = by
        self.have: Arrays = {}
        self._since: int | None = None

    def encode(self, arrays: Arrays, number: int, follows: bool) -> tuple[Arrays, dict[str, Any]]:
        """The coded arrays of round `number` and what the sites must know of them; `follows`: every site has the
        message before.
        """
        shapes = {name: a.shape for name, a in arrays.items()}
        if follows and self._since is not None and shapes == {name: a.shape for name, a in self.have.items()}:
            coded = encode(self.by, {name: a - self.have[name] for name, a in arrays.items()})
            change = decode(self.by, coded, shapes)
            self.have = {name: self.have[name] + change[name] for name in arrays}
            about: dict[str, Any] = {"since": self._since}
        else:
            coded = encode(WHOLE, arrays)
            self.have, about = (
                decode(WHOLE, coded, shapes),
                {"shapes": {name: list(shape) for name, shape in shapes.items()}},
            )
        self._since = number
        return coded, about


class Received:
    """The site's half of the way down."""

    def __init__(self, by: Compression):
        self.by = by
        self.have: Arrays = {}
        self._since: int | None = None

    def decode(self, coded: Arrays, number: int, about: Mapping[str, Any]) -> Arrays:
        """The global parameters of round `number`. Raises CodingError where they are the change of others than this
        site has.
        """
        if "shapes" in about:
            self.have = decode(WHOLE, coded, {name: tuple(shape) for name, shape in about["shapes"].items()})
        elif about["since"] != self._since:
            raise CodingError(
                f"the centre sent a change since round {about['since']}, this site has that of {self._since}"
            )
        else:
            change = decode(self.by, coded, {name: a.shape for name, a in self.have.items()})
            self.have = {name: a + change[name] for name, a in self.have.items()}
        self._since = number
        return dict(self.have)
