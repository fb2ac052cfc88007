"""The code, data and jobs behind a result as tags, read from files and git."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path

import yaml

from fedsynth.params import names
from fedsynth.settings import experiment

NONE = "none"


def lineage(root: Path) -> dict[str, str]:
    """Return tags by name; a value that is not available is "none".

    - git.commit, git.dirty
    - dvc.lock (md5 of the file), dvc.out.<path> (md5 of each output under data/ and models/), dvc.exp (in `dvc exp
      run`)
    - data.digest.<site>, data.used (the sites that passed validation)
    """
    root = Path(root)
    return {key(name): value for name, value in {**_git(root), **_dvc(root), **_data(root)}.items()}


def key(name: str) -> str:
    """Return the name of a tag, parameter or metric with the characters replaced that MLflow does not allow."""
    return re.sub(r"[^/\w.\- :]", "_", name)


def _git(root: Path) -> dict[str, str]:
    commit = _output(root, "rev-parse", "HEAD")
    if commit is None:
        return {"git.commit": NONE, "git.dirty": NONE}
    # Each run writes dvc.lock, and its hash is a tag of its own, so a changed dvc.lock does not count as dirty.
    changes = _output(root, "status", "--porcelain", "--", ".", ":(exclude)dvc.lock")
    return {"git.commit": commit, "git.dirty": NONE if changes is None else str(bool(changes)).lower()}


def _output(root: Path, *arguments: str) -> str | None:
    """Return the output of a git command; None without git, a repository or a commit."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=60, check=True
        )
    except (FileNotFoundError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _dvc(root: Path) -> dict[str, str]:
    tags = {"dvc.exp": experiment()} if experiment() else {}
    lock = root / "dvc.lock"
    if not lock.is_file():
        return {"dvc.lock": NONE, **tags}
    content = lock.read_bytes()
    tags["dvc.lock"] = hashlib.md5(content, usedforsecurity=False).hexdigest()
    for stage in ((yaml.safe_load(content) or {}).get("stages") or {}).values():
        for out in stage.get("outs", []):
            if out["path"].startswith(("data/", "models/")):
                tags[f"dvc.out.{out['path']}"] = str(out.get("md5", NONE))
    return tags


def _data(root: Path) -> dict[str, str]:
    path = root / "reports" / "validation.json"
    if not path.is_file():
        return {"data.used": NONE}
    verdict = json.loads(path.read_text(encoding="utf-8"))
    digests = {
        f"data.digest.{names.key(site)}": str(answer.get("digest", NONE)) for site, answer in verdict["sites"].items()
    }
    return {"data.used": ",".join(verdict["used"]), **digests}
