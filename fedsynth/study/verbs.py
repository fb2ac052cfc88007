"""`fedsynth.run` and `fedsynth.status`: a study in Python."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedsynth.settings import Settings
from fedsynth.study.layout import StudyError


def run(study: str | Path = ".", values: Mapping[str, Any] | None = None, models: str = "") -> None:
    """Run what must run of a study, as `fedsynth run` in its folder does, and return once it has ended.

    `values`: other values than params.yaml has, {"models.vae.training.rounds": 20}; the run is then an experiment of
    DVC. `models`: only these, "vae,gan". Raises StudyError where the run failed; what it printed says why.
    """
    words = [word for key, value in (values or {}).items() for word in ("-S", f"{key}={value}")]
    words += ["--models", models] if models else []
    root = _there(study)
    environment = os.environ | {"FEDSYNTH_ROOT": str(root)}
    done = subprocess.run([sys.executable, "-m", "flows", *words], cwd=root, env=environment, check=False)
    if done.returncode:
        raise StudyError(f"the run of {root} failed with exit code {done.returncode}; what it printed says why")


def status(study: str | Path = ".") -> dict[str, Any]:
    """Return what `fedsynth status --json` prints of a study: run, stale stages, models, disk."""
    from fedsynth import checks
    from fedsynth.study import status as of_study

    with contextlib.chdir(_there(study)):  # where the paths of its params.yaml begin
        settings = Settings.read()
        params = checks.load_or_list(settings.root / "params.yaml", source=False)
        return of_study.status(settings.root, params, settings)


def _there(study: str | Path) -> Path:
    root = Path(study).resolve()
    if not root.is_dir():
        raise StudyError(f"{root} is not there; `fedsynth init FOLDER` makes a study")
    return root
