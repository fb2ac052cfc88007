"""A copy of the project with tiny params, run once for the tests of this folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]

SITE = {"images": 60, "mix": [0.34, 0.33, 0.33], "noise": 0.03, "bias": 0.1, "gamma": 1.0, "gain": 1.0}


def tiny(raw: dict) -> dict:
    """params.yaml made small: two sites, 16 x 16 pixels, two models, two rounds. What it yields is worth nothing, and
    soon there.
    """
    raw["source"]["args"]["sites"] = {"north": SITE, "south": SITE | {"noise": 0.05}}
    raw["image"]["size"] = [16, 16]
    raw["split"] = {"val": 0.1, "test": 0.3}  # enough of each class to train on at both sites
    raw["seed"] = 3  # with which the barely trained GAN draws masks that are not empty
    raw["models"] = {name: raw["models"][name] for name in ("diffusion", "gan")}
    for model in raw["models"].values():
        model["training"] |= {"rounds": 2, "epochs": 1}
    raw["models"]["diffusion"]["seed"] = 4  # its own, so that every job is run with one
    raw["audit"] = {"canaries": 24}
    raw["sample"]["images"] = 30
    del raw["score"]["seeds"]  # a key with a default may be left out
    for use in raw["score"]["uses"].values():
        use.setdefault("args", {})["steps"] = 5
    return raw


def command(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    """Run a program of this environment in the copy; its output is in the result, whatever its exit code."""
    return subprocess.run(
        words,
        cwd=cwd,
        env=environment(cwd) | env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=540,
    )


def environment(cwd: Path) -> dict[str, str]:
    """Of programs in the copy: with its code in front of the checkout's, and none of the caller's settings.

    Python writes bytecode, as it does on most machines: it must make nothing stale.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    place = {k: v for k, v in os.environ.items() if not k.startswith(("FEDSYNTH_", "MLFLOW_", "PREFECT_", "DVC_"))}
    place.pop("PYTHONDONTWRITEBYTECODE", None)
    fixed = {
        "PYTHONPATH": str(cwd),
        "PYTHONUNBUFFERED": "1",
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    return place | fixed | {"PATH": path, "PREFECT_HOME": os.environ["PREFECT_HOME"]}


@pytest.fixture(scope="session", autouse=True)
def prefect_home(tmp_path_factory):
    """One for all copies: to make Prefect's database takes ten to twenty seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        yield


def git(*words: str, cwd: Path) -> str:
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    done = command("git", *who, *words, cwd=cwd)
    assert done.returncode == 0, done.stdout
    return done.stdout


def run(project: Path, **env: str) -> subprocess.CompletedProcess:
    return command(sys.executable, "-m", "flows", cwd=project, **env)


def change(project: Path, edit) -> None:
    path = project / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    edit(raw)
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


def copy(folder: Path) -> Path:
    """The project's own files, in a git repository of their own, with tiny params."""
    for name in (
        "fedsynth",
        "flows",
        "nvflare_jobs",
        ".dvc",
        "dvc.yaml",
        "params.yaml",
        "pyproject.toml",
        "prefect.toml",
        ".gitignore",
        ".dvcignore",
    ):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "cache", "tmp", "config.local")
            )
        else:
            shutil.copy(source, folder / name)
    change(folder, tiny)
    git("init", "-q", "-b", "main", cwd=folder)
    git("add", "-A", cwd=folder)
    git("commit", "-q", "-m", "tiny", cwd=folder)
    return folder


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Path:
    return copy(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def first(project) -> subprocess.CompletedProcess:
    """The first run of the whole pipeline."""
    done = run(project)
    assert done.returncode == 0, done.stdout[-6000:]
    return done
