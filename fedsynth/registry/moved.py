"""A study's folder that was moved or copied: its registry follows.

MLflow's SQLite store keeps absolute addresses of artifacts, so that the versions of a folder in another place would
name files of the old one. Where the SQLite file lies in the study's folder, its artifacts lie beside it, and the
addresses are brought up to date when the registry is opened.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from fedsynth.registry import place
from fedsynth.settings import home

# columns of MLflow's tables that hold addresses of artifacts
ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def follow(root: Path) -> None:
    """Let the registry in a study's folder name the artifacts beside it, wherever the folder is now.

    A registry elsewhere stays as it is: several studies may share it, and a copy must not take the artifacts of others.
    """
    file, now = place.database(root), place.artifacts(root)
    if file is None or not file.is_file() or file.resolve().parent != home(root):
        return
    with closing(sqlite3.connect(file, timeout=60)) as store, store:
        tables = {name for (name,) in store.execute("select name from sqlite_master where type = 'table'")}
        if "experiments" not in tables:  # MLflow is just making it
            return
        known = [of for (of,) in store.execute("select distinct artifact_location from experiments")]
        for before in known:
            if before and before != now and before.rpartition("/")[2] == now.rpartition("/")[2]:
                _replace(store, [(table, of) for table, of in ADDRESSES if table in tables], before, now)


def _replace(store: sqlite3.Connection, columns: list[tuple[str, str]], before: str, now: str) -> None:
    """Replace the beginning of addresses, where it ends with a part of the path."""
    for table, of in columns:
        store.execute(
            f"update {table} set {of} = ? || substr({of}, ?) where {of} = ? or substr({of}, 1, ?) = ?",
            (now, len(before) + 1, before, len(before) + 1, f"{before}/"),
        )
