"""The hashes of a version's files: what was registered is what is loaded, or nothing is.

`hashes.json` lies in the version's artifact and names the SHA-256 of each file; its own is the version's tag
`manifest.sha256`, which is written when the version is made and never again. Card and datasheet are written anew with
each scoring, so that each has a tag of its own, `paper.<file>`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedsynth.data import outputs
from fedsynth.errors import UserError
from fedsynth.training import weights

FILE, TAG, PAPER = "hashes.json", "manifest.sha256", "paper."
PAPERS = ("MODEL_CARD.md", "DATASHEET.md")
MLFLOWS_OWN = "registered_model_meta"  # MLflow writes it into the folder of a model that it loads by its name
DATA = ("data/model", "artifacts")  # where weights and model.json lie: now, and in versions without hashes
CODE = ("families", "networks", "operators", "training/sampling.py", "training/weights.py")  # what loading runs
MEND = (
    "nothing of it was loaded. Find out who changed it; then bring the artifact back from a backup, or register the"
    " weights anew: `dvc checkout models`, delete this version, `fedsynth run`"
)

log = logging.getLogger(__name__)


class Swapped(UserError):
    """A registered version is not what was registered; the message names the file, the version and what to do."""


class Unhashed(UserError):
    """A version was registered before versions had hashes: nobody can tell whether it is what was registered."""


def write(folder: Path, about: dict[str, Any], commit: str) -> str:
    """Write the hashes of all files of an artifact, papers aside, and return the digest of that file.

    `about`: the model's model.json; `commit`: of git, or "none". With it stand fedsynth's version and a digest of each
    module that draws images, so that a reader can tell what made them and with what they are drawn now.
    """
    found = {
        "files": {name: weights.sha256(folder / name) for name in _files(folder)},
        "weights_sha256": about["weights_sha256"],
        "code": {"fedsynth": version("fedsynth"), "git.commit": commit, "modules": modules()},
    }
    outputs.write(folder / FILE, found)
    return weights.sha256(folder / FILE)


def paper_tags(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of papers as they are written, in UTF-8."""
    return {f"{PAPER}{name}": hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def check(title: str, folder: Path, tags: Mapping[str, str]) -> dict[str, Any]:
    """Hold an artifact's folder against its hashes and the version's tags, and return what `hashes.json` says.

    Nothing is deserialised but JSON whose digest is the tag's. Raises Swapped, and Unhashed for a version that has
    neither file nor tag.
    """
    if TAG not in tags and not (folder / FILE).is_file():
        raise Unhashed(
            f"{title} has no hashes: it was registered by an older fedsynth, so nobody can tell what it holds"
        )
    if TAG not in tags:
        raise Swapped(f"{title} has lost its tag {TAG}, which belongs to its {FILE}; {MEND}")
    if not (folder / FILE).is_file():
        raise Swapped(f"{title} has lost {FILE}; {MEND}")
    if (found := weights.sha256(folder / FILE)) != tags[TAG]:
        raise Swapped(f"{title}: {FILE} and the tag {TAG} disagree ({_short(found)} and {_short(tags[TAG])}); {MEND}")
    kept = alone(title, folder)
    for paper in PAPERS:
        _paper(title, folder / paper, tags.get(f"{PAPER}{paper}"))
    if tags.get("weights_sha256", kept["weights_sha256"]) != kept["weights_sha256"]:
        raise Swapped(f"{title}: the tag weights_sha256 is not of the weights that {FILE} names; {MEND}")
    return kept


def alone(title: str, folder: Path) -> dict[str, Any]:
    """Hold a folder against the hashes in it: what is damaged, changed by hand, missing or added is found.

    Whoever rewrites `hashes.json` too is found by the version's tag alone, see `check`.
    """
    kept = _kept(title, folder)
    there = set(_files(folder))
    for name, expected in sorted(kept["files"].items()):
        if name not in there:
            raise Swapped(f"{title} has lost {name}; {MEND}")
        if (found := weights.sha256(folder / name)) != expected:
            raise Swapped(
                f"{title}: {name} is not the file that was registered ({_short(found)} instead of"
                f" {_short(expected)}); {MEND}"
            )
    if added := sorted(there - set(kept["files"])):
        raise Swapped(f"{title}: {added[0]} was added after it was registered ({len(added)} such files); {MEND}")
    if kept["files"].get(f"{DATA[0]}/{weights.FILE}") != kept["weights_sha256"]:
        raise Swapped(f"{title}: the weights are not those that {weights.ABOUT} names; {MEND}")
    return kept


def data_of(folder: Path) -> Path:
    """Return the folder with weights and model.json in an artifact. Raises Swapped where there is none."""
    for name in DATA:
        if (folder / name / weights.FILE).is_file() and (folder / name / weights.ABOUT).is_file():
            return folder / name
    raise Swapped(f"{folder.name} holds no {weights.FILE} with its {weights.ABOUT}; {MEND}")


def modules() -> dict[str, str]:
    """Return module -> SHA-256 of the installed package's files that run when a model is loaded and draws."""
    root = Path(__file__).parents[1]
    found = [path for name in CODE for path in ((root / name).rglob("*.py") if "." not in name else [root / name])]
    return {".".join(p.relative_to(root.parent).with_suffix("").parts): weights.sha256(p) for p in sorted(found)}


def drifted(kept: dict[str, Any], family: str) -> list[str]:
    """Return the modules that differ from those at registration, of `family` (a class path) and what all share.

    Images may then differ for the same seed: a warning, no error, since an upgrade does no more than that.
    """
    now, own = modules(), family.rpartition(".")[0]
    shared = {name: of for name, of in kept["code"]["modules"].items() if ".families." not in name or name == own}
    return sorted(name for name, of in shared.items() if now.get(name) != of)


def warn_of_drift(title: str, kept: dict[str, Any], about: dict[str, Any]) -> None:
    """Warn where the installed code is not what it was at registration. `about`: the model's model.json."""
    if changed := drifted(kept, about["family"]["class_path"]):
        log.warning(
            "%s was registered with fedsynth %s, and %s has changed since: the same seed may give other images",
            title, kept["code"]["fedsynth"], ", ".join(changed[:3]),
        )  # fmt: skip


def _kept(title: str, folder: Path) -> dict[str, Any]:
    try:
        kept = json.loads((folder / FILE).read_text(encoding="utf-8"))
        files, code = kept["files"], kept["code"]["modules"]
        if not all(isinstance(of, dict) for of in (files, code)) or not isinstance(kept["weights_sha256"], str):
            raise TypeError
    except FileNotFoundError as error:
        raise Swapped(f"{title} has lost {FILE}; {MEND}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Swapped(f"{title}: {FILE} cannot be read; {MEND}") from error
    return kept


def _files(folder: Path) -> list[str]:
    """Return what lies in a folder but its directories: relative names with /, without papers and what MLflow adds."""
    found = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()]
    return sorted(set(found) - {FILE, MLFLOWS_OWN, *PAPERS})


def _paper(title: str, path: Path, expected: str | None) -> None:
    if (weights.sha256(path) if path.is_file() else None) != expected:
        said = "has no tag" if expected is None else "is not the one that was written" if path.is_file() else "is gone"
        raise Swapped(
            f"{title}: {path.name} {said}; nothing was loaded. Run the pipeline (`fedsynth run`), which writes it anew"
            " with the current scores, and find out who changed it"
        )


def _short(digest: str) -> str:
    return f"{digest[:12]}…"
