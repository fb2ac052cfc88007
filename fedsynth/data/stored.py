"""Images of a set that stay on disk: read where they are asked for, so that memory does not grow with the set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsynth.settings import memory

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PART = 64  # images that are read at once where all are gone through


@dataclass(frozen=True)
class Stored:
    """Images (N, C, *S) float32 of one or several files, in any order and with any of their channels.

    It reads as an array: `stored[places]` (an integer, a slice, indices or a mask, and further axes) is a numpy array
    of these images alone, `for image in stored` reads one after the other. `where` and `of` stay on disk.
    `np.asarray(stored)` reads all of it.

    Args:
        files: .npy files of (N, C, *S) float32.
        of_file, rows: (N,) the file of each image, and its row there.
        channels: indices of the channels, in their order.
    """

    files: tuple[Path, ...]
    of_file: np.ndarray
    rows: np.ndarray
    channels: tuple[int, ...]
    size: tuple[int, ...]

    @classmethod
    def open(cls, path: Path, rows: np.ndarray) -> Stored:
        whole = np.load(path, mmap_mode="r")
        return cls((Path(path),), np.zeros(len(rows), int), rows, tuple(range(whole.shape[1])), whole.shape[2:])

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
        return Stored(self.files, self.of_file[keep], self.rows[keep], self.channels, self.size)

    def of(self, channels: list[int]) -> Stored:
        """Return the same images with these of their channels alone, still on disk."""
        return Stored(self.files, self.of_file, self.rows, tuple(self.channels[c] for c in channels), self.size)

    def parts(self) -> Iterator[np.ndarray]:
        """Yield all images in parts (PART, C, *S), in their order."""
        for start in range(0, len(self), PART):
            yield self[start : start + PART]

    def tensor(self) -> OnDisk:
        return OnDisk(self)

    def _read(self, places: np.ndarray) -> np.ndarray:
        out = np.empty((len(places), *self.shape[1:]), np.float32)
        for number in np.unique(self.of_file[places]):
            here = self.of_file[places] == number
            # mapped for this read alone: what is mapped counts as memory of the process
            whole = np.load(self.files[number], mmap_mode="r")
            for place, row in zip(np.flatnonzero(here), self.rows[places][here], strict=True):
                out[place] = whole[row][list(self.channels)]
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
    """Return images of several sets together: on disk where all are, else in memory."""
    stored = [part for part in parts if isinstance(part, Stored) and len(part)]
    if not stored or any(len(part) and not isinstance(part, Stored) for part in parts):
        return np.concatenate([np.asarray(part) for part in parts])
    files = tuple(dict.fromkeys(file for part in stored for file in part.files))
    of_file = [np.array([files.index(file) for file in part.files])[part.of_file] for part in stored]
    if len({(part.channels, part.size) for part in stored}) > 1:
        raise ValueError("sets of other channels or sizes cannot be one set")
    rows = np.concatenate([part.rows for part in stored])
    return Stored(files, np.concatenate(of_file), rows, stored[0].channels, stored[0].size)


def opened(path: Path, rows: np.ndarray) -> np.ndarray | Stored:
    """Return the images of these rows of a file: in memory where FEDSYNTH_MEMORY has room for them, else on disk."""
    stored = Stored.open(path, rows)
    return np.asarray(stored) if stored.nbytes <= memory() else stored


class Writer:
    """Writes images (C, *S) to a .npy file one after the other; their number need not be known before.

    A context: the file is there once all have been written, and what was there before stays if something fails.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]):
        self.path, self.part, self.shape, self.n = path, path.with_suffix(".part"), shape, 0

    def __enter__(self) -> Writer:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.part.open("wb")
        self._header()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.file.seek(0)
            self._header()
        self.file.close()
        if kind is None:
            self.part.replace(self.path)
        else:
            self.part.unlink()

    def add(self, image: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(image, np.float32).tobytes())
        self.n += 1

    def _header(self) -> None:
        """numpy leaves room in a header for a longer first axis, so that it can be written again at the end."""
        header = {"descr": "<f4", "fortran_order": False, "shape": (self.n, *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, header)
