"""An append-only file of lines, each with the SHA-256 of the one before: none can be lost or changed unseen."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fedsynth.privacy import PrivacyError

FILE, HEAD, LOCK = "ledger.jsonl", "ledger.head", "ledger.lock"
START = "0" * 64  # what the first line has in the place of a digest


class Chain:
    """The lines of `ledger.jsonl` in a folder, verified as they are read.

    `ledger.head` beside it says how many lines there are and the digest of the last: a file that was shortened or
    lost is seen, too. It is written after the line, so that a process that dies in between leaves one line more, which
    counts. What follows the last line break beyond the head was never whole on disk, so nothing was sent for it: the
    next line takes its place.

    It protects from mistakes, restored backups and edits of the one file, not from one who writes both files anew.
    """

    def __init__(self, folder: Path):
        self.folder, self.path, self.head = folder, folder / FILE, folder / HEAD
        self.digests: list[str] = []  # of the lines that were read
        self.end = 0  # of the last of them, in bytes

    @property
    def last(self) -> str:
        return self.digests[-1] if self.digests else START

    def read(self) -> list[bytes]:
        """Returns the lines that were written since the last time, by whomever. Raises PrivacyError."""
        if not self.folder.is_dir():
            return self._new()
        with self._locked():
            return self._new()

    def append(self, line: Callable[[str], bytes]) -> list[bytes]:
        """Write `line(digest of the last line)`, on disk when this returns; returns what `read` would, the line too."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            found = self._new()
            if not self.head.is_file():
                self._write_head()  # so that a first line without a head is a loss, not a death in between
            with os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
                file.truncate(self.end)
                file.seek(self.end)
                file.write(line(self.last) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            found += self._lines()
            self._write_head()
        return found

    def _new(self) -> list[bytes]:
        known = self._known()
        found = self._lines()
        lines, digest = known or (0, START)
        if lines > len(self.digests):
            raise PrivacyError(self._said(f"is shortened: {len(self.digests)} of {lines} lines are there"))
        if digest != (self.digests[lines - 1] if lines else START):
            raise PrivacyError(self._said(f"is edited: line {lines} is not the one that was written"))
        return found

    def _known(self) -> tuple[int, str] | None:
        """Returns the number of lines and the last digest by the head; None where there is no ledger yet."""
        there, marked = self.path.is_file(), self.head.is_file()
        if there and not marked:
            raise PrivacyError(self._said(f"has lost {HEAD}, which says how long it is"))
        if not marked:
            return None
        try:
            head = json.loads(self.head.read_text(encoding="utf-8"))
            lines, digest = int(head["lines"]), str(head["last"])
        except (ValueError, KeyError, TypeError):
            raise PrivacyError(self._said(f"has a {HEAD} that cannot be read")) from None
        if not there and lines:
            raise PrivacyError(self._said(f"is lost: {lines} lines are missing"))
        return lines, digest

    def _lines(self) -> list[bytes]:
        """Take in what follows what was read."""
        if not self.path.is_file():
            return []
        with self.path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < self.end:
                raise PrivacyError(self._said("is shortened while it was in use"))
            file.seek(self.end)
            *found, _ = file.read().split(b"\n")
        for line in found:
            if _previous(line) != self.last:
                raise PrivacyError(
                    self._said(f"is edited: line {len(self.digests) + 1} does not follow the one before")
                )
            self.digests.append(hashlib.sha256(line).hexdigest())
            self.end += len(line) + 1
        return found

    def _write_head(self) -> None:
        part = self.head.with_name(f"{HEAD}.part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"lines": len(self.digests), "last": self.last}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.head)
        folder = os.open(self.folder, os.O_RDONLY)
        os.fsync(folder)  # the names of both files, too
        os.close(folder)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time; the system frees the lock of one that dies."""
        lock = os.open(self.folder / LOCK, os.O_RDONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _said(self, what: str) -> str:
        return (
            f"the ledger {self.path} {what}. So nobody knows what the images of this site have spent, and no training"
            f" with a privacy mechanism starts here. Put {FILE} and {HEAD} back from the same backup, not older than"
            " the last training; without one, new images alone can be trained on with a new ledger (docs/privacy.md)"
        )


def _previous(line: bytes) -> str | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found.get("previous") if isinstance(found, dict) else None
