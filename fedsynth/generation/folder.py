"""The folder of a set: it is there once it is complete, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedsynth.data.manifest import FILE
from fedsynth.errors import UserError


class FolderError(UserError):
    """A set cannot be written to a folder; the message names it."""


def refuse(out: Path) -> None:
    """Raise FolderError for what is no folder, or one that holds anything."""
    if out.exists() and not out.is_dir():
        raise FolderError(f"{out} is a file; name a folder that is new or empty")
    if out.is_dir() and (held := sorted(path.name for path in out.iterdir())):
        raise FolderError(
            f"{out} is not empty ({', '.join(held[:3])}{', …' * (len(held) > 3)}), and nothing is overwritten; name"
            " another folder, or empty it"
        )


@contextmanager
def unfinished(out: Path, needed: int) -> Iterator[Path]:
    """Yield a folder of another name, which becomes `out` where no exception is raised, and else is deleted.

    It lies beside `out`, or in it where that is there already (it may be a disk of its own). `needed`: bytes. What is
    left of a process that was killed ends in .part.
    """
    refuse(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = (out if out.is_dir() else out.parent) / f".{out.name}.{os.getpid()}.part"
    if needed > (free := shutil.disk_usage(out.parent).free):
        raise FolderError(f"{out}: {needed / 1e9:.1f} GB are needed, and there are {free / 1e9:.1f} GB")
    part.mkdir()
    try:
        yield part
        _finish(part, out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _finish(part: Path, out: Path) -> None:
    if part.parent != out:
        part.rename(out)
        return
    for path in sorted(part.iterdir(), key=lambda path: path.name == FILE):  # the table last: it names the files
        path.rename(out / path.name)
    part.rmdir()
