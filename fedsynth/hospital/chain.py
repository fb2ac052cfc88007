"""An append-only file of JSON lines, each with the hash of the one before: a changed or lost line is noticed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from fedsynth.errors import UserError

START = "0" * 64  # what the first line follows
LONGEST = 1 << 20  # bytes of a line


class ChainError(UserError):
    """A line was changed, or lines are lost; the message names the file and the line."""


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
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # two processes of one site, or a command beside a job
            size, last = self._last(file)
            file.truncate(size)
            line = json.dumps({"previous": last, **entry}, sort_keys=True, ensure_ascii=False).encode()
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
            self._mark(size + len(line) + 1, _hash(line))
        return entry

    def read(self) -> list[dict[str, Any]]:
        """Return all entries, oldest first. Raises ChainError naming the first line that does not follow."""
        whole = self.path.read_bytes() if self.path.is_file() else b""
        size, end = self._marked()
        last, found, at = START, [], 0
        for number, line in enumerate(whole.split(b"\n")[:-1], 1):
            entry = _following(line, last)
            if entry is None:
                said = "it does not follow the line before; it was changed, or lines are lost"
                raise ChainError(f"{self.path}, line {number}: {said}. Bring the file back from a backup")
            last, at = _hash(line), at + len(line) + 1
            found.append(entry)
            if at == size and last != end:
                raise self._lost()
        if at < size or (whole and not size):
            raise self._lost()
        return found

    def _last(self, file: Any) -> tuple[int, str]:
        """Return the length and the hash of the last line. Only the end is read, so that a long file costs nothing."""
        there, (size, last) = file.seek(0, os.SEEK_END), self._marked()
        start = max(0, size - LONGEST)
        file.seek(start)
        before, after = file.read(size - start), file.read()
        if there < size or (there and not size) or (size and _hash(before[:-1].split(b"\n")[-1]) != last):
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
        size, last = self.end.read_text(encoding="utf-8").split()
        return int(size), last

    def _mark(self, size: int, last: str) -> None:
        part = self.end.with_name(f"{self.end.name}.part")
        part.write_text(f"{size} {last}\n", encoding="utf-8")
        part.replace(self.end)


def _following(line: bytes, last: str) -> dict[str, Any] | None:
    """Return the entry of a line; None if it does not follow the line with the hash `last`."""
    try:
        entry: dict[str, Any] = json.loads(line)
        return entry if entry.pop("previous") == last else None
    except (ValueError, KeyError, AttributeError):
        return None


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
