"""Git for a study: the repository that `fedsynth init` makes, and a commit of what a run has computed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from fedsynth.study import layout

NOBODY = {"user.name": "fedsynth", "user.email": "fedsynth@localhost"}  # where git does not know who commits


def inside(folder: Path) -> Path | None:
    """Return the top of the git repository that a folder lies in; None if it lies in none, or there is no git."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    return Path(top.stdout.strip()).resolve() if top and top.returncode == 0 else None


def begin(root: Path) -> str:
    """Make a repository and commit all files, where `root` lies in none. Returns what was done, in a sentence."""
    if _git(root, "--version") is None:
        return "git is not installed: the study is no repository, so that it has no experiments and no history"
    if (top := inside(root)) is not None:
        return f"it lies in the git repository {top}: commit it there"
    _git(root, "init", "--quiet")
    _git(root, "add", "--all")
    committed = commit(root, "A study of fedsynth", [])
    return "a git repository with one commit" if committed else "a git repository; nothing could be committed"


def commit(root: Path, message: str, places: list[str]) -> bool:
    """Commit these files where they have changed, all that is staged if none is named. Returns whether it was done."""
    if places:
        there = [place for place in places if (root / place).is_file()]
        if not _done(_git(root, "add", "--", *there)) or _done(_git(root, "diff", "--cached", "--quiet", "--", *there)):
            return False
        places = ["--", *there]
    known = all(_done(_git(root, "config", key)) for key in NOBODY)
    nobody = [] if known else [word for key, value in NOBODY.items() for word in ("-c", f"{key}={value}")]
    return _done(_git(root, *nobody, "commit", "--quiet", "--no-verify", "-m", message, *places))


def keep(root: Path, message: str) -> bool:
    """Commit params.yaml and dvc.lock, which say what a run has computed and from what. Returns whether it was done.

    It is done in a repository that `fedsynth init` has made, and in no other one.
    """
    if not (root / layout.MADE).is_file() or inside(root) != root.resolve():
        return False
    return commit(root, message, ["dvc.lock", "params.yaml"])


def _done(process: subprocess.CompletedProcess[str] | None) -> bool:
    return process is not None and process.returncode == 0


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess[str] | None:
    """Run git in a folder; None where git is not installed."""
    try:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
