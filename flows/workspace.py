"""The workspace of an experiment: a clone of the study's git repository, with the study's files as they are.

Changed files and those that git does not know come along, committed or not; DVC's cache is the study's own.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from fedsynth.errors import UserError
from fedsynth.study.git import NOBODY
from flows import dvcx

DVC_ROOT, EXPERIMENT = "DVC_ROOT", "DVC_EXP_NAME"  # DVC's variables, which fedsynth.settings reads
DONE = Path(".work") / "done"  # in a workspace whose run has ended well
FOLDER = Path(".work") / "experiments"


class ExperimentError(UserError):
    """A run with other values cannot be made; the message says why."""


def made(study: Path, name: str, given: list[str]) -> Path:
    """Make an experiment's workspace, or renew it with the state that an earlier try has left. Returns its root."""
    top = top_of(study)
    if git("rev-parse", "-q", "--verify", "HEAD", cwd=study, check=False) == "":
        raise ExperimentError(f"an experiment belongs to a commit, and {top} has none: `git add -A`, `git commit`")
    clone = study / FOLDER / name
    root = clone / study.relative_to(top)
    _trim(study / FOLDER, study.relative_to(top))
    kept = root / ".work"
    aside = clone.with_name(f"{name}.work")
    if kept.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
        kept.rename(aside)
    shutil.rmtree(clone, ignore_errors=True)
    clone.parent.mkdir(parents=True, exist_ok=True)
    git("clone", "-q", "--shared", str(top), str(clone), cwd=study)
    for key, value in NOBODY.items():  # DVC commits an experiment, and refuses where git does not know who does
        git("config", key, git("config", key, cwd=study, check=False) or value, cwd=clone)
    if aside.is_dir():
        aside.rename(kept)
    _as_it_is(top, clone)
    _share_cache(study, root)
    _values(study, root, given)
    dvcx.checkout(root)
    _link(study, root)
    return root


def _as_it_is(top: Path, clone: Path) -> None:
    """Bring what differs from the commit: changed and deleted files, and those that git does not know."""
    changed = git("diff", "--name-only", "--no-renames", "-z", "HEAD", cwd=top).split("\0")
    new = git("ls-files", "--others", "--exclude-standard", "--directory", "-z", cwd=top).split("\0")
    for name in filter(None, [*changed, *new]):
        there, here = top / name.rstrip("/"), clone / name.rstrip("/")
        here.parent.mkdir(parents=True, exist_ok=True)
        if there.is_dir():
            here.symlink_to(there)
        elif there.is_file():
            shutil.copy2(there, here)
        else:
            here.unlink(missing_ok=True)


def _share_cache(study: Path, root: Path) -> None:
    """Let the workspace read and fill the study's cache, without copies of what is in it where the disk can do that."""
    if (own := study / ".dvc" / "config.local").is_file():
        shutil.copy2(own, root / ".dvc" / "config.local")
    dvcx.use_cache(root, dvcx.cache(study))


def _values(study: Path, root: Path, given: list[str]) -> None:
    """Write the experiment's params.yaml: the file that was given, or the study's, with the overrides."""
    files, overrides = [word for word in given if "=" not in word], [word for word in given if "=" in word]
    removed = [word for word in files if word.startswith("~")]
    for file in (word for word in files if word not in removed):
        if not (study / file).is_file():
            raise ExperimentError(f"{study / file} is not there, and an override has the form key=value")
        shutil.copy2(study / file, root / "params.yaml")
    try:
        dvcx.override(root / "params.yaml", [*overrides, *removed])
    except dvcx.OverrideError as error:
        raise ExperimentError(str(error)) from error


def _link(study: Path, root: Path) -> None:
    """Link what params.yaml names by a relative path and neither git nor DVC has brought, such as a source's folder."""
    raw = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    for text in _texts(raw):
        there, here = study / text, root / text
        if Path(text).is_absolute() or here.exists() or not there.exists():
            continue
        if (study / ".work") not in Path(os.path.normpath(here)).parents:
            raise ExperimentError(f"{text} is too far from the study for an experiment; give it as an absolute path")
        here.parent.mkdir(parents=True, exist_ok=True)
        here.unlink(missing_ok=True)
        here.symlink_to(there.resolve())


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for of in value.values():
            yield from _texts(of)
    elif isinstance(value, list):
        for of in value:
            yield from _texts(of)
    elif isinstance(value, str) and 0 < len(value) < 256 and "\n" not in value:
        yield value


def _trim(folder: Path, inside: Path) -> None:
    """Keep the reports alone of experiments that have ended well. `inside`: the study's place in its repository."""
    for clone in folder.iterdir() if folder.is_dir() else ():
        if not (clone / inside / DONE).is_file():
            continue
        reports, aside = clone / inside / "reports", clone.with_name(f"{clone.name}.reports")
        reports.rename(aside)
        shutil.rmtree(clone)
        reports.parent.mkdir(parents=True)
        aside.rename(reports)


def top_of(study: Path) -> Path:
    """Return the top of the git repository that a study lies in. Raises ExperimentError where it lies in none."""
    if not any((folder / ".git").exists() for folder in (study, *study.parents)):
        raise ExperimentError(
            f"a run with other values is an experiment of DVC, which needs git, and {study} is in no git repository:"
            " `git init`, `git add -A` and `git commit` make one; or change params.yaml and run"
        )
    return Path(git("rev-parse", "--show-toplevel", cwd=study)).resolve()


def git(*command: str, cwd: Path, check: bool = True) -> str:
    return run("git", *command, cwd=cwd, check=check)


def run(*command: str, cwd: Path, check: bool = True) -> str:
    env = {key: value for key, value in os.environ.items() if key not in (DVC_ROOT, EXPERIMENT)}
    done = subprocess.run(command, cwd=cwd, env=env, text=True, capture_output=True, check=False)
    if check and done.returncode:
        raise ExperimentError(f"`{shlex.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.rstrip("\n") if not done.returncode else ""
