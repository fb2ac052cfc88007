"""An append-only file of JSON lines, each with the hash of the one before: a changed or lost line is noticed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from fedsynth.data.disk import sync_folder
from fedsynth.errors import UserError

START = "0" * 64  # what the first line follows
LONGEST = 1 << 20  # bytes of a line


class ChainError(UserError):
    """A line was changed, or lines are lost; the message names the file and the line."""


class Place(NamedTuple):
    """A place between two lines: the bytes and lines before it, and the hash of the last of them."""

    size: int = 0
    last: str = START
    lines: int = 0


class Chain:
    """One file at `path`; beside it, `<path>.end` holds its length in bytes and the hash of its last line.

    A process may die between the two: a line that follows is then taken as written, half a line as not written (what it
    is about has not left, because that waits for both).
    """

    def __init__(self, path: Path):
        self.path, self.end = Path(path), Path(path).with_name(f"{Path(path).name}.end")

    def add(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Append an entry and write it to the disk before returning it. Raises ChainError if the end is not as left."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # two processes of one site, or a command beside a job
            size, last = self._last(file)
            if not size:
                self._mark(0, START)  # so that a first line without a mark is a loss
            line = json.dumps({"previous": last, **entry}, sort_keys=True, ensure_ascii=False).encode()
            file.truncate(size)
            file.seek(size)
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
            self._mark(size + len(line) + 1, _hash(line))
        return entry

    def read(self) -> list[dict[str, Any]]:
        """Return all entries, oldest first. Raises ChainError naming the first line that does not follow."""
        return self.follow(Place())[0]

    def follow(self, place: Place) -> tuple[list[dict[str, Any]], Place]:
        """Return the entries after a place up to which the file was read, and the place after them."""
        after, size, end = self._after(place)
        at, found = place, []
        marked = (size, end) in {(0, START), (place.size, place.last)} or size < place.size
        for line in after.split(b"\n")[:-1]:
            entry = _following(line, at.last)
            if entry is None:
                said = "it does not follow the line before; it was changed, or lines are lost"
                raise ChainError(f"{self.path}, line {at.lines + 1}: {said}. Bring the file back from a backup")
            at = Place(at.size + len(line) + 1, _hash(line), at.lines + 1)
            found.append(entry)
            marked = marked or (at.size, at.last) == (size, end)
        if not marked or (at.size and not self.end.is_file()):
            raise self._lost()
        return found, at

    def _after(self, place: Place) -> tuple[bytes, int, str]:
        """Return what follows a place, and the mark, while nobody writes."""
        if not self.path.is_file():
            if place.size:
                raise self._lost()
            return b"", *self._marked()
        with self.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            if file.seek(0, os.SEEK_END) < place.size:
                raise self._lost()
            file.seek(place.size)
            return file.read(), *self._marked()

    def _last(self, file: Any) -> tuple[int, str]:
        """Return the length and the hash of the last line. Only the end is read, so that a long file costs nothing."""
        there, (size, last) = file.seek(0, os.SEEK_END), self._marked()
        start = max(0, size - LONGEST)
        file.seek(start)
        before, after = file.read(size - start), file.read()
        unmarked = there and not self.end.is_file()
        if there < size or unmarked or (size and _hash(before[:-1].split(b"\n")[-1]) != last):
            raise self._lost()
        for line in after.split(b"\n")[:-1]:
            if _following(line, last) is None:
                raise self._lost()
            size, last = size + len(line) + 1, _hash(line)
        return size, last

    def _lost(self) -> ChainError:
        return ChainError(
            f"{self.path} does not end as it was left ({self.end}): a line was changed, or lines are lost. Bring both"
            " files back from a backup"
        )

    def _marked(self) -> tuple[int, str]:
        if not self.end.is_file():
            return 0, START
        try:
            size, last = self.end.read_text(encoding="utf-8").split()
            return int(size), last
        except ValueError:
            raise self._lost() from None

    def _mark(self, size: int, last: str) -> None:
        part = self.end.with_name(f"{self.end.name}.part")
        with part.open("w", encoding="utf-8") as file:
            file.write(f"{size} {last}\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.end)
        sync_folder(self.path.parent)  # the names of both files, too


def _following(line: bytes, last: str) -> dict[str, Any] | None:
    """Return the entry of a line; None if it does not follow the line with the hash `last`."""
    try:
        entry: dict[str, Any] = json.loads(line)
        return entry if entry.pop("previous") == last else None
    except (ValueError, KeyError, AttributeError):
        return None


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
