"""Checks of the folders that a site's environment names: existence, permissions, free disk space."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from fedsynth.hospital.findings import Finding, fails, warns

FOLDERS = {
    "FEDSYNTH_DATA": "the folder that holds the site's ingested set, <folder>/<site>/",
    "FEDSYNTH_STATE": "the folder where the site keeps what stays at the site: trainings' state and validation reports",
}
FAIL_GIB, WARN_GIB = 1, 5


def place(variable: str, folder: Path) -> Iterator[Finding]:
    """Check the folder that an environment variable names.

    The variable is set, the folder exists, this user can use it and no other user can, and its disk has free space.
    """
    if not os.environ.get(variable):
        yield fails(
            variable,
            "not set",
            f"set it to {FOLDERS[variable]}, here and in the environment of the site's service (site.env)",
        )
        return
    if not folder.is_dir():
        parent = nearest(folder)
        if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
            yield warns(variable, f"{folder} is not there yet", f"mkdir -p {folder} && chmod 700 {folder}")
        else:
            yield fails(
                variable,
                f"{folder} is not there and cannot be made",
                f"make it a folder that this user may write to: {folder}",
            )
    elif variable == "FEDSYNTH_STATE" and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield fails(
            variable,
            f"{folder} cannot be written to",
            f"give it to the user that runs the site: chown -R USER {folder}",
        )
    elif not os.access(folder, os.R_OK | os.X_OK):
        yield fails(
            variable, f"{folder} cannot be read", f"let the user that runs the site read it: chown -R USER {folder}"
        )
    elif mode := folder.stat().st_mode & 0o077:
        yield warns(variable, f"{folder} is open to other users (mode …{mode:02o})", f"chmod 700 {folder}")
    else:
        yield Finding(variable, str(folder))
    yield room(variable, folder)


def room(variable: str, folder: Path) -> Finding:
    free = shutil.disk_usage(nearest(folder)).free / 2**30
    what, found = f"disk of {variable}", f"{free:.1f} GiB free"
    if free < FAIL_GIB:
        return fails(what, found, f"make room: less than {FAIL_GIB} GiB does not last a training")
    return (
        warns(what, found, f"make room: less than {WARN_GIB} GiB may not last")
        if free < WARN_GIB
        else Finding(what, found)
    )


def nearest(path: Path) -> Path:
    """Return the path, or its nearest parent that exists."""
    return next(p for p in (path, *path.parents) if p.exists())
