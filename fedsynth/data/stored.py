"""Images of a set that stay on disk: read where they are asked for, so that memory does not grow with the set."""

from __future__ import annotations

import io
import math
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from fedsynth.data.manifest import SetError
from fedsynth.errors import UserError
from fedsynth.settings import memory

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PART, BYTES = 64, 4 * 2**20  # images, and bytes, that are read at once where all are gone through
PIXELS = 2**20  # of a channel of the images that a network is shown at once: 64 of 128 x 128
AS_STORED = np.float32(np.inf)  # among values to fill channels with: none; no pixel is infinite


def at_once(size: tuple[int, ...]) -> int:
    """Return how many images of a size (*S) a network is shown at once, PART at most: what it makes of them on the way
    is many times as large."""
    return max(1, min(PART, PIXELS // max(1, math.prod(size))))


class ChangedError(UserError):
    """A file of images is no longer the one that was opened; the message names it."""


@dataclass(frozen=True)
class File:
    """A .npy file of images (N, C, *S) float32, as it was when it was opened."""

    path: Path
    stamp: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> File:
        return cls(Path(path), stamp(path))

    def read(self) -> np.ndarray:
        """Return the mapped array. Raises ChangedError if it is another one: what was verified must be what is read."""
        if stamp(self.path) != self.stamp:
            raise ChangedError(
                f"{self.path} has changed while it was in use (was `ingest` run again, or a patient taken out?); run"
                " what read it again"
            )
        return np.asarray(np.load(self.path, mmap_mode="r"))


@dataclass(frozen=True, eq=False)
class Held:
    """Images (N, C, *S) float32 in memory, beside those of files in one set."""

    images: np.ndarray

    def read(self) -> np.ndarray:
        return self.images


def stamp(path: Path) -> tuple[int, ...]:
    """Return what tells a file from another at the same path: its number, size and time of change."""
    about = path.stat()
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


@dataclass(frozen=True)
class Stored:
    """Images (N, C, *S) float32 of one or several files, or of arrays in memory beside them, in any order and with any
    of their channels.

    It reads as an array: `stored[places]` (an integer, a slice, indices or a mask, and further axes) is a numpy array
    of these images alone, `for image in stored` reads one after the other. `where` and `of` stay on disk.
    `np.asarray(stored)` reads all of it. Reading raises ChangedError where a file is no longer what it was when it was
    opened: rows and hashes were those of that one.

    Args:
        files: where the images are.
        of_file, rows: (N,) the file of each image, and its row there.
        channels: indices of the channels, in their order.
        filled: (N, C) values that are read in the place of an image's channel, as where it is to count as not taken;
            AS_STORED for all others. None: all are read as stored.
    """

    files: tuple[File | Held, ...]
    of_file: np.ndarray
    rows: np.ndarray
    channels: tuple[int, ...]
    size: tuple[int, ...]
    filled: np.ndarray | None = None

    @classmethod
    def open(cls, path: Path, rows: np.ndarray) -> Stored:
        """Open a set's file by its manifest's `rows` (N,). Raises SetError if the file has another number of images."""
        file = File.of(path)
        whole = file.read()
        if len(whole) != len(rows):
            raise SetError(f"{path.parent}: {len(rows)} rows in the manifest but {len(whole)} images; run ingest again")
        channels = tuple(range(whole.shape[1])) if whole.ndim > 1 else ()
        return cls((file,), np.zeros(len(rows), int), np.arange(len(whole))[rows], channels, whole.shape[2:])

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), len(self.channels), *self.size)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[np.ndarray]:
        for part in self.parts():
            yield from part

    def __getitem__(self, key: Any) -> np.ndarray:
        first, *rest = key if isinstance(key, tuple) else (key,)
        places = np.arange(len(self))[first]
        read = self._read(np.atleast_1d(places))
        read = read if np.ndim(places) else read[0]
        return np.asarray(read[(slice(None),) * bool(np.ndim(places)) + tuple(rest)] if rest else read)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._read(np.arange(len(self))).astype(dtype or self.dtype, copy=False)

    def where(self, keep: np.ndarray) -> Stored:
        """Return the images of a mask (N,) bool, or of indices, still on disk."""
        filled = None if self.filled is None else self.filled[keep]
        return replace(self, of_file=self.of_file[keep], rows=self.rows[keep], filled=filled)

    def of(self, channels: list[int]) -> Stored:
        """Return the same images with these of their channels alone, still on disk."""
        filled = None if self.filled is None else self.filled[:, channels]
        return replace(self, channels=tuple(self.channels[c] for c in channels), filled=filled)

    def fill(self, channel: int, value: float, where: np.ndarray | slice = slice(None)) -> Stored:
        """Return the same images, still on disk, with a channel (its place among `channels`) that reads as `value`
        throughout in those of a mask `where` (N,) bool; all by default.
        """
        filled = self._filled()
        filled[where, channel] = value
        return replace(self, filled=filled)

    def _filled(self) -> np.ndarray:
        return np.full(self.shape[:2], AS_STORED) if self.filled is None else self.filled.copy()

    def parts(self) -> Iterator[np.ndarray]:
        """Yield all images in their order, in parts (B, C, *S) of some megabytes; an empty one of none."""
        each = self.nbytes // max(1, len(self))
        n = max(1, min(PART, BYTES // max(1, each)))
        for start in range(0, max(1, len(self)), n):
            yield self[start : start + n]

    def _read(self, places: np.ndarray) -> np.ndarray:
        out = np.empty((len(places), *self.shape[1:]), np.float32)
        first, n = min(self.channels, default=0), len(self.channels)
        in_a_row = self.channels == tuple(range(first, first + n))
        channels: Any = slice(first, first + n) if in_a_row else list(self.channels)  # a slice is copied once
        for number in np.unique(self.of_file[places]):
            here = self.of_file[places] == number
            # mapped for this read alone: what is mapped counts as memory of the process
            whole = self.files[number].read()
            for place, row in zip(np.flatnonzero(here), self.rows[places][here], strict=True):
                out[place] = whole[row, channels]
        if self.filled is not None:
            image, channel = np.nonzero(self.filled[places] != AS_STORED)  # NaN is a value, too
            out[image, channel] = self.filled[places][image, channel].reshape(-1, *[1] * len(self.size))
        return out


@dataclass(frozen=True)
class OnDisk:
    """Stored images (N, C, *S) in the place of a tensor of them, for loops that take batches.

    `on_disk[places]` (a tensor of indices or a slice) is a tensor of these images; `split` reads part after part.
    """

    stored: Stored

    @property
    def shape(self) -> torch.Size:
        import torch

        return torch.Size(self.stored.shape)

    @property
    def ndim(self) -> int:
        return self.stored.ndim

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, places: Any) -> Tensor:
        import torch

        return torch.from_numpy(self.stored[places if isinstance(places, slice) else np.asarray(places)])

    def where(self, keep: Tensor) -> OnDisk:
        return OnDisk(self.stored.where(keep.numpy()))

    def split(self, n: int) -> Iterator[Tensor]:
        """Yield parts of n images, an empty one of none, as a tensor does."""
        for start in range(0, max(1, len(self)), n):
            yield self[start : start + n]

    def to(self, device: torch.device) -> Tensor:
        return self[:].to(device)


def joined(parts: list[np.ndarray | Stored]) -> np.ndarray | Stored:
    """Return images of several sets together: each stays where it is, on disk or in memory."""
    if not any(isinstance(part, Stored) and len(part) for part in parts):
        return np.concatenate([np.asarray(part) for part in parts])
    stored = [part if isinstance(part, Stored) else held(part) for part in parts if len(part)]
    if len({(part.channels, part.size) for part in stored}) > 1:
        raise ValueError("sets of other channels or sizes cannot be one set")
    files = tuple(dict.fromkeys(file for part in stored for file in part.files))
    of_file = [np.array([files.index(file) for file in part.files])[part.of_file] for part in stored]
    rows = np.concatenate([part.rows for part in stored])
    some = any(part.filled is not None for part in stored)
    filled = np.concatenate([part._filled() for part in stored]) if some else None
    return Stored(files, np.concatenate(of_file), rows, stored[0].channels, stored[0].size, filled)


def held(images: np.ndarray) -> Stored:
    """Return images (N, C, *S) in memory as a part of a set of which others are on disk."""
    n, channels, *size = images.shape
    file = Held(np.asarray(images, np.float32))
    return Stored((file,), np.zeros(n, int), np.arange(n), tuple(range(channels)), tuple(size))


def opened(path: Path, rows: np.ndarray) -> np.ndarray | Stored:
    """Return the images of these rows of a file: in memory where FEDSYNTH_MEMORY has room for them, else on disk."""
    stored = Stored.open(path, rows)
    return np.asarray(stored) if stored.nbytes <= memory() else stored


class Writer:
    """Writes images (C, *S) to a .npy file: `add` one after the other, their number need not be known before; `put` at
    a place, in any order and again. What lies before a place that was put and was not put itself is 0.

    A context: the file is there once all have been written, and what was there before stays if something fails. With
    `after` a file that has so many images gets more of them, in place: what it is read by before is not touched until
    the context ends.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], after: int = 0):
        self.path, self.shape, self.n, self.after = path, shape, after, after
        self.part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")  # which removal.complete clears away
        self.start, self.each = len(self._header()), 4 * int(np.prod(shape))

    def __enter__(self) -> Writer:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.path.open("r+b") if self.after else self.part.open("wb")
        if not self.after:
            self.file.write(self._header())
        self.file.seek(self._at(self.after))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.file.flush()
                os.fsync(self.file.fileno())  # the images before the header that counts them
                self.file.seek(0)
                self.file.write(self._header())
            elif self.after:
                self.file.truncate(self._at(self.after))
            self.file.close()
            if kind is None and not self.after:
                self.part.replace(self.path)
        finally:  # whatever failed: no pixel stays in a file that nobody knows
            self.part.unlink(missing_ok=True)

    def add(self, image: np.ndarray) -> None:
        self.put(self.n, image)

    def put(self, place: int, image: np.ndarray) -> None:
        if np.shape(image) != self.shape:
            raise ValueError(f"{self.path}: an image of {np.shape(image)} among those of {self.shape}")
        self._write(place, np.ascontiguousarray(image, np.float32).tobytes())

    def copy(self, other: BinaryIO, row: int) -> None:
        """Add a row of another file of images of this shape, which a Writer has written."""
        other.seek(self._at(row))
        self._write(self.n, other.read(self.each))

    def _write(self, place: int, content: bytes) -> None:
        if self.file.tell() != (at := self._at(place)):
            self.file.seek(at)
        self.file.write(content)
        self.n = max(self.n, place + 1)

    def _at(self, place: int) -> int:
        return self.start + place * self.each

    def _header(self) -> bytes:
        """numpy leaves room in a header for a longer first axis, so that it can be written again at the end."""
        header, out = {"descr": "<f4", "fortran_order": False, "shape": (self.n, *self.shape)}, io.BytesIO()
        np.lib.format.write_array_header_1_0(out, header)
        return out.getvalue()


def owned(path: Path) -> bool:
    """Whether a file may be written in place: it is no link, it has no second name, and it may be written at all."""
    return not path.is_symlink() and path.stat().st_nlink == 1 and os.access(path, os.W_OK)
