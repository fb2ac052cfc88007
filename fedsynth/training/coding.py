"""Compressed exchange of parameters with error feedback, in both directions.

Up: a site encodes the sum of its difference and of what the coding left out in earlier rounds (Karimireddy et al. 2019,
arXiv:1901.09847, algorithm 2). Down: the server knows the parameters that the sites have and encodes the difference to
them, so the next message contains what this one leaves out (as MCM: Philippenko & Dieuleveut 2021, arXiv:2102.12528).
Differences are relative to the parameters that a site actually has, so that both sides agree on them.

The full parameters, coded with WHOLE, are sent in the first message down and in any message to a site that may have
missed the previous one. The last message up is also coded with WHOLE, because no later round makes up for what it
leaves out.
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
    """Encode named arrays with `by`, in the order of their names."""
    names = sorted(arrays)
    x = np.concatenate([arrays[name].reshape(-1).astype(np.float32) for name in names])
    return by.encode(x, [arrays[name].size for name in names])


def decode(by: Compression, coded: Mapping[str, np.ndarray], shapes: Shapes) -> Arrays:
    """Returns the named arrays, of the given shapes.

    Raises CodingError if `coded` does not have the form of encoded arrays of these shapes.
    """
    names = sorted(shapes)
    sizes = [int(np.prod(shapes[name])) for name in names]
    fitting(by, coded, shapes)
    parts = np.split(by.decode(dict(coded), sizes), np.cumsum(sizes)[:-1])
    return {name: part.reshape(shapes[name]) for name, part in zip(names, parts, strict=True)}


def fitting(by: Compression, coded: Mapping[str, np.ndarray], shapes: Shapes) -> None:
    """Raise CodingError if the coded arrays do not have the form that `by` defines for parameters of these shapes."""
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
    """The site's half of the upload.

    `rest` is what the coding has left out so far; it must be kept between rounds.
    """

    def __init__(self, by: Compression):
        self.by = by
        self.rest: Arrays = {}

    def encode(self, difference: Arrays, last: bool) -> tuple[Arrays, Compression]:
        """Returns the coded arrays and the compression that was used."""
        by = WHOLE if last else self.by
        wanted = {name: d + self.rest[name] if name in self.rest else d for name, d in difference.items()}
        coded = encode(by, wanted)
        sent = decode(by, coded, {name: d.shape for name, d in wanted.items()})
        self.rest |= {name: wanted[name] - sent[name] for name in wanted}
        return coded, by


class Downlink:
    """The server's half of the download. `have` are the parameters that the sites have since the last message."""

    def __init__(self, by: Compression):
        self.by = by
        self.have: Arrays = {}
        self._since: int | None = None

    def encode(self, arrays: Arrays, number: int, follows: bool) -> tuple[Arrays, dict[str, Any]]:
        """Returns the coded arrays of round `number` and the metadata that the sites need to decode them.

        `follows`: whether every site has the previous message.
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
    """The site's half of the download."""

    def __init__(self, by: Compression):
        self.by = by
        self.have: Arrays = {}
        self._since: int | None = None

    def decode(self, coded: Arrays, number: int, about: Mapping[str, Any]) -> Arrays:
        """Returns the global parameters of round `number`.

        Raises CodingError if the message is a change relative to another round than this site has.
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
