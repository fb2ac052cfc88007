"""Where the registry is, without MLflow, whose import takes seconds."""

from __future__ import annotations

import glob
from pathlib import Path
from urllib.parse import urlsplit

from fedsynth.settings import home, tracking_uri

SQLITE = "sqlite:///"


def artifacts(root: Path) -> str:
    """Return where artifacts lie beside a registry in a SQLite file; a server has a place of its own."""
    return (home(root) / "mlartifacts").as_uri()


def there(root: Path) -> bool:
    """Whether the tracking store exists; MLflow would create a missing SQLite database."""
    path = database(root)
    return path is None or path.is_file()


def stamp(root: Path) -> str:
    """Return what changes with each change of a registry in a SQLite file; "" for a server, which must be asked.

    SQLite's journals beside the file count too: with a write-ahead log, changes are there before they are in the file.
    """
    path = database(root)
    if path is None or not path.is_file():
        return ""
    files = sorted(path.parent.glob(f"{glob.escape(path.name)}*"))
    return "\n".join(f"{file} {of.st_ino} {of.st_size} {of.st_mtime_ns}" for file in files if (of := file.stat()))


def page(root: Path, what: str) -> str:
    """Return the address of a page of the tracking server, without a name or password; "" where there is no server."""
    uri = urlsplit(tracking_uri(root))
    if uri.scheme not in ("http", "https"):
        return ""
    return f"{uri.scheme}://{uri.netloc.rpartition('@')[2]}{uri.path.rstrip('/')}/#/{what}"


def database(root: Path) -> Path | None:
    """Return the SQLite file of the tracking store, None for a server."""
    uri = tracking_uri(root)
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None
