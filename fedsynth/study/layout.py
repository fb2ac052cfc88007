"""The files of a study that belong to fedsynth, and what a study remembers of the version that wrote them."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from fedsynth import __version__
from fedsynth.errors import UserError

TEMPLATES = Path(__file__).parent / "files"
# place in a study -> file in TEMPLATES, whose names have no leading dot
FILES = {
    "dvc.yaml": "dvc.yaml",
    "prefect.yaml": "prefect.yaml",
    "prefect.toml": "prefect.toml",
    ".gitignore": "gitignore",
    ".dvcignore": "dvcignore",
    ".dvc/.gitignore": "dvc/gitignore",
    ".dvc/config": "dvc/config",
    ".dvc/plots/page.html": "dvc/plots/page.html",
    ".dvc/plots/rounds.json": "dvc/plots/rounds.json",
    ".dvc/plots/tradeoff.json": "dvc/plots/tradeoff.json",
    ".dvc/plots/worth.json": "dvc/plots/worth.json",
}
MADE = ".fedsynth.json"
DEPLOYMENT = re.compile(r"^(  - name: )(nightly|promote)$", re.MULTILINE)  # in prefect.yaml


class StudyError(UserError):
    """A folder cannot become a study, or is none; the message says what to do."""


@dataclass(frozen=True)
class Made:
    """What wrote a study's files: the study's `name`, `version` of fedsynth, digest of each file as it was written."""

    name: str
    version: str
    files: dict[str, str]


def template(place: str, name: str = "") -> str:
    """Return the text of a file for the study `name`.

    Deployments of several studies share Prefect's server, so that they have the study's name in theirs.
    """
    text = (TEMPLATES / FILES[place]).read_text(encoding="utf-8")
    return DEPLOYMENT.sub(rf"\1\2-{name}", text) if name and place == "prefect.yaml" else text


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def remember(root: Path, name: str) -> None:
    """Note version and digests of the files that a study has now been given."""
    files = {place: digest(template(place, name)) for place in FILES}
    told = {"name": name, "version": __version__, "files": files}
    (root / MADE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def made(root: Path) -> Made:
    """Return what wrote a study's files. Raises StudyError where `fedsynth init` did not make this folder."""
    try:
        told = json.loads((root / MADE).read_text(encoding="utf-8"))
        return Made(str(told["name"]), str(told["version"]), dict(told["files"]))
    except FileNotFoundError as error:
        raise StudyError(
            f"{root} has no {MADE}: it was not made by `fedsynth init`; in a checkout of fedsynth, update with git"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{root / MADE} cannot be read: {error}; bring it back with `git checkout {MADE}`") from error
