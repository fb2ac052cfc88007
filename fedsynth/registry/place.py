"""Where the registry is, without MLflow, whose import takes seconds."""

from __future__ import annotations

import glob
from pathlib import Path

from fedsynth.settings import tracking_uri

SQLITE = "sqlite:///"


def there(root: Path) -> bool:
    """Whether the tracking store exists; MLflow would create a missing SQLite database."""
    uri = tracking_uri(root)
    return not uri.startswith(SQLITE) or Path(uri.removeprefix(SQLITE)).is_file()


def stamp(root: Path) -> str:
    """Return what changes with each change of a registry in a SQLite file; "" for a server, which must be asked.

    SQLite's journals beside the file count too: with a write-ahead log, changes are there before they are in the file.
    """
    uri = tracking_uri(root)
    if not uri.startswith(SQLITE) or not there(root):
        return ""
    path = Path(uri.removeprefix(SQLITE))
    files = sorted(path.parent.glob(f"{glob.escape(path.name)}*"))
    return "\n".join(f"{file} {of.st_ino} {of.st_size} {of.st_mtime_ns}" for file in files if (of := file.stat()))
