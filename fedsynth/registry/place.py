"""Where the registry is, without MLflow, whose import takes seconds."""

from __future__ import annotations

import glob
from pathlib import Path

from fedsynth.settings import tracking_uri

SQLITE = "sqlite:///"


def there(root: Path) -> bool:
    """Whether the tracking store exists; MLflow would create a missing SQLite database."""
    path = _file(root)
    return path is None or path.is_file()


def stamp(root: Path) -> str:
    """Return what changes with each change of a registry in a SQLite file; "" for a server, which must be asked.

    SQLite's journals beside the file count too: with a write-ahead log, changes are there before they are in the file.
    """
    path = _file(root)
    if path is None or not path.is_file():
        return ""
    files = sorted(path.parent.glob(f"{glob.escape(path.name)}*"))
    return "\n".join(f"{file} {of.st_ino} {of.st_size} {of.st_mtime_ns}" for file in files if (of := file.stat()))


def _file(root: Path) -> Path | None:
    """Return the SQLite file of the tracking store, None for a server."""
    uri = tracking_uri(root)
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None
