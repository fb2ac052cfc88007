"""What a study no longer needs: work of jobs, states of trainings, versions of data, each beyond the last N runs.

What is never listed: what a site must remember (policy, record, ledger, kept answers, who was trained on) and the final
weights of its trainings, by which it knows a model again.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedsynth.errors import UserError
from fedsynth.hospital import states
from fedsynth.params import keep_runs
from fedsynth.settings import Settings

DATA = "data and models of earlier commits, in DVC's cache"
REMOVED = re.compile(r"^Removing (.+)$", re.MULTILINE)  # DVC 3, dvc_data/hashfile/gc.py


class CleanError(UserError):
    """Something could not be removed; the message names it."""


@dataclass(frozen=True)
class Leftover:
    """What may go: `what` it is, `paths`, and their size in bytes."""

    what: str
    paths: tuple[Path, ...]
    size: int


def leftovers(settings: Settings, keep: int) -> list[Leftover]:
    """Return what is beyond the last `keep` runs. Raises CleanError where DVC cannot say what it needs."""
    from fedsynth.registry import unused

    found = {
        **files(settings, keep),
        "pages and pictures of earlier runs, in MLflow": unused.artifacts(settings.root, keep),
        DATA: _unused(settings.root, keep),
    }
    return [Leftover(what, tuple(paths), size(paths)) for what, paths in found.items() if paths]


def bound(settings: Settings) -> None:
    """Remove what jobs and trainings before the last `keep_runs` have left: called at the end of each run.

    What cannot be removed stays, for `fedsynth clean` to name.
    """
    for paths in files(settings, keep_runs(settings.root)).values():
        for path in paths:
            with suppress(CleanError):
                _delete(path)


def files(settings: Settings, keep: int) -> dict[str, list[Path]]:
    """Return what neither MLflow nor DVC knows of."""
    sites = settings.state.glob("*")
    experiments = settings.root / ".dvc" / "tmp" / "exps"
    own = settings.root / ".work" / "experiments"  # of `fedsynth run -S`, flows/experiment.py
    return {
        "work of earlier jobs": _jobs(settings.root / ".work" / "jobs", keep),
        "states of earlier trainings": [old for site in sites for old in states.replaced(site, keep)],
        "workspaces of experiments": [
            *(p for p in experiments.glob("*") if p.is_dir() and p.name != "cache"),
            *states.older(own.glob("*"), keep),
        ],
    }


def size(paths: Iterable[Path]) -> int:
    """Return the bytes of files and folders, each file once however many hard links it has."""
    inside = (file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]))
    stats = [file.lstat() for file in inside if file.is_file() and not file.is_symlink()]
    return sum({(of.st_dev, of.st_ino): of.st_size for of in stats}.values())


def remove(leftover: Leftover, root: Path, keep: int) -> None:
    """Delete it. Raises CleanError naming what cannot be deleted."""
    if leftover.what == DATA:
        _gc(root, keep)
        return
    for path in leftover.paths:
        _delete(path)


def _delete(path: Path) -> None:
    try:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    except OSError as error:
        raise CleanError(f"{path} cannot be removed: {error.strerror}") from error


def _jobs(folder: Path, keep: int) -> list[Path]:
    """Return the working folders of each stage's jobs but the newest: they hold logs and what travelled."""
    stages = [path for path in folder.glob("*") if path.is_dir() and not path.name.endswith("-job")]
    return [
        old
        for stage in stages
        for old in states.older((path for path in stage.iterdir() if path.is_dir() and path.name != "result"), keep)
    ]


def _unused(root: Path, keep: int) -> list[Path]:
    """Return the files of DVC's cache that neither the workspace nor one of the last `keep` commits needs."""
    if not (root / "dvc.lock").is_file():
        return []
    return [Path(path) for path in REMOVED.findall(_gc(root, keep, "--dry"))]


def _gc(root: Path, keep: int, *more: str) -> str:
    """Run `dvc gc`, which keeps what experiments and tags need, too. Raises CleanError where it fails."""
    words = ["gc", "--force", "--workspace", "--rev", "HEAD", "--num", str(keep), "--all-experiments", "--all-tags"]
    command = [sys.executable, "-m", "dvc", *words, *more]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
        raise CleanError(f"DVC's cache was left as it is: {said[-1]}")
    return done.stdout
