"""A list of patients that holds no name: HMACs of their pseudonyms, with a key of the file's own."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fedsynth.data.disk import sync_folder
from fedsynth.errors import UserError
from fedsynth.params import names

DIGITS = 32  # of the 64 of an HMAC: 128 bits


class ListError(UserError):
    """A list at the site cannot be read; the message names the file and says what to do."""


@dataclass
class Pseudonyms:
    """Which patients are meant. Whoever has the file can ask of a name whether it is in it, and cannot read one out."""

    key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    marks: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path) -> Pseudonyms:
        """Read a list; an empty one with a key of its own where there is no file. Raises ListError for a damaged one:
        it must not be taken for an empty one.
        """
        if not path.exists():
            return cls()
        try:
            first, *lines = path.read_text(encoding="ascii").split("\n")
            key, marks = bytes.fromhex(first.removeprefix("key ")), {line for line in lines if line}
            if len(key) != 32 or not all(len(m) == DIGITS and int(m, 16) >= 0 for m in marks):
                raise ValueError
        except ValueError as error:
            raise ListError(
                f"{path} is damaged, so that it is not known whom it means; bring it back from a backup"
            ) from error
        return cls(key, marks)

    def mark(self, subject: str) -> str:
        return hmac.new(self.key, names.normal(subject).encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[
            :DIGITS
        ]

    def __contains__(self, subject: str) -> bool:
        return self.mark(subject) in self.marks

    def add(self, subjects: Iterable[str]) -> None:
        self.marks |= {self.mark(subject) for subject in subjects}

    def drop(self, subjects: Iterable[str]) -> None:
        self.marks -= {self.mark(subject) for subject in subjects}

    def write(self, path: Path) -> None:
        write_private(path, "\n".join([f"key {self.key.hex()}", *sorted(self.marks), ""]))


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone can read: beside, synced, renamed; a crash leaves the old one or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    sync_folder(path.parent)
