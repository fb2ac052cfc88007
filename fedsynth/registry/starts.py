"""What each training begins with: digests of files and registered versions when a run begins, and their arrays later.

The stage `source` writes these digests into data/inputs, so that a training is stale exactly when what it begins with
has changed, and a run computes with what was there when it began.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fedsynth.data import outputs
from fedsynth.params import Params
from fedsynth.params.start import PRIVATE, PUBLIC, URI, Start
from fedsynth.settings import home, masked
from fedsynth.training import weights
from fedsynth.training.start import Arrays, StartError, place, read
from fedsynth.worth.withdrawn import trained_with

FOLDER = Path("data") / "pretrained"  # made by the stage `pretrain`
KEY = "start"  # of data/inputs/train@<model>.json


class Nothing(StartError):
    """The registry has no such version."""


@dataclass(frozen=True)
class Begun:
    """The arrays that a training begins with, and what is known of them.

    `about`: "from", "sha256", "trained_on" (list of sentences, "public" where no image of a patient was behind it),
    "digests" (site -> digests of its sets that were), "epsilon" (that of a model of this software, None without).
    """

    arrays: Arrays
    about: dict[str, Any]


def resolved(root: Path, start: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what tells one start from another: {"sha256", "version" of a registered one}; None without a start.

    {"none": reason} where the registry has no such version: the training begins with the seed's weights (`missing:
    seed`), or the check of params.yaml says so, as {"failed": reason} in any case. `start`: as params.yaml has it.
    """
    if start is None:
        return None
    said = Start.model_validate(start)
    try:
        if said.file is not None:
            file = place(path_of(root, said.file))
            return {"sha256": _sha256(file, file.stat().st_size, file.stat().st_mtime_ns)}
        return _version(root, said)
    except Nothing as error:
        return {"none": str(error)}
    except StartError as error:
        return {"failed": str(error)}


def path_of(root: Path, file: str) -> Path:
    """Return where a file lies: in this workspace, or in the study that an experiment is of."""
    return next((p for p in (root / file, home(root) / file) if p.exists()), root / file)


@cache
def _sha256(file: Path, size: int, changed: int) -> str:
    return weights.sha256(file)


def _version(root: Path, start: Start) -> dict[str, Any]:
    """Return the version that a URI names now, and the SHA-256 of its weights.

    Raises Nothing where the registry has no such version, StartError where it does not answer.
    """
    from fedsynth.registry import versions

    uri = URI.fullmatch(start.registry or "")
    assert uri is not None, "params.yaml has been checked"
    model = model_of(root, uri["name"])
    try:
        known = versions.models_of_study(root) if versions.there(root) else []
        of = next((of for of in known if of.name == uri["name"]), None)
        number = (uri["version"] or of.aliases.get(uri["alias"])) if of else None
        if number is None:
            raise Nothing(f"{start.registry}: the registry has no such version yet{_mend(start, model)}")
        version = versions.version_of(root, model, int(number))
    except versions.RegistryError as error:
        raise Nothing(f"{start.registry}: {error}{_mend(start, model)}") from error
    except StartError:
        raise
    except Exception as error:  # of MLflow, SQLAlchemy or a driver
        said = masked(" ".join(str(error).split())[:300])
        raise StartError(f"{start.registry}: the registry does not answer: {said}") from error
    return {"version": str(version.version), "sha256": version.tags.get("weights_sha256", "")}


def model_of(root: Path, name: str) -> str:
    """Return the model of a registered name of this study. Raises StartError for one of another study."""
    from fedsynth.registry.versions import registered_name

    model = name.rpartition("-")[2]
    if registered_name(root, model) != name:
        raise StartError(
            f"{name} is no model of this study, whose names begin with {registered_name(root, '')}: take its"
            " weights.safetensors as a `file`, and say what it was trained on"
        )
    return model


def _mend(start: Start, model: str) -> str:
    if start.missing == "seed":
        return ""
    how = f"promote one (`fedsynth promote {model}`)"
    return f"; {how}, or say `missing: seed` to begin with the seed's weights until then"


def begun(root: Path, params: Params, name: str, found: Mapping[str, Any] | None) -> Begun | None:
    """Return what the training of a model begins with; None for the seed's weights.

    `found`: from `resolved`, when the run began. Raises StartError where that is gone, or has changed since.
    """
    model = params.models[name]
    if model.pretrain is not None:
        return _pretrained(root, name)
    if (start := model.start) is None:
        return None
    if found is None:
        raise StartError(f"models.{name}.start was not looked up when this run began; run again")
    if said := failure(start, found):
        raise StartError(f"models.{name}.start: {said}")
    if "none" in found:
        return None
    _as_said(name, start, found)
    return _of_file(root, name, start, found) if start.file is not None else _of_version(root, start, found)


def failure(start: Start, found: Mapping[str, Any]) -> str:
    """Return why a training cannot begin with what was found, "" where it can."""
    return str(found.get("failed") or ("" if start.missing == "seed" else found.get("none", "")))


def _as_said(name: str, start: Start, found: Mapping[str, Any]) -> None:
    if start.sha256 is not None and found["sha256"] != start.sha256:
        raise StartError(mismatch(name, start, found["sha256"]))


def mismatch(name: str, start: Start, sha256: str) -> str:
    """Return what is wrong with other weights than params.yaml says."""
    return (
        f"models.{name}.start: {start.source} has the SHA-256 {sha256 or '(none)'}, params.yaml says {start.sha256};"
        " find out where the other one is from before you write it down"
    )


def _of_file(root: Path, name: str, start: Start, found: Mapping[str, Any]) -> Begun:
    file = place(path_of(root, str(start.file)))
    if (now := weights.sha256(file)) != found["sha256"]:
        raise StartError(f"models.{name}.start: {file} has changed since this run began ({now[:12]}…); run again")
    about: dict[str, Any] = {"from": f"file {file.name}", "trained_on": [], "digests": {}, "epsilon": None}
    if (own := _beside(file, now)) is not None:  # of this software, which has written down what was behind it
        about |= _of_model(own)
    about["trained_on"] = list(dict.fromkeys([str(start.trained_on), *about["trained_on"]]))
    return Begun(read(file), about | {"sha256": now})


def _beside(file: Path, sha256: str) -> dict[str, Any] | None:
    """Return the model.json beside weights that it describes; None for other files."""
    path = file.parent / weights.ABOUT
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found if found.get("weights_sha256") == sha256 and {"sites", "digests"} <= found.keys() else None
    except (FileNotFoundError, NotADirectoryError, ValueError, AttributeError):
        return None


def _of_version(root: Path, start: Start, found: Mapping[str, Any]) -> Begun:
    """Return a registered version: hashes are checked, and a stale one is refused."""
    from fedsynth.registry import loading, versions

    uri = URI.fullmatch(start.registry or "")
    assert uri is not None, "params.yaml has been checked"
    version = versions.version_of(root, model_of(root, uri["name"]), int(found["version"]))
    with loading.admitted(root, version) as admitted:
        file, of = admitted.data / weights.FILE, admitted.about
        if (now := weights.sha256(file)) != found["sha256"]:
            raise StartError(f"{admitted.title} has changed since this run began ({now[:12]}…); run again")
        about = {"from": f"{start.registry}, version {found['version']}", **_of_model(of), "sha256": now}
        about["trained_on"] = [*([start.trained_on] if start.trained_on else []), *about["trained_on"]]
        return Begun(weights.load(file), about)


def _of_model(of: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was behind a model of this study, and behind what it began with. `of`: its model.json."""
    before = of.get("began") or {}
    own = f"{PRIVATE}: training images of {', '.join(sorted(of['sites']))}"
    told = [said for said in before.get("trained_on", []) if said != PUBLIC]
    return {"trained_on": list(dict.fromkeys([*told, own])), "digests": trained_with(of), "epsilon": of.get("epsilon")}


def _pretrained(root: Path, name: str) -> Begun:
    about = outputs.read(root / FOLDER / f"{name}.json", "pretrain")
    file = root / FOLDER / about["file"]
    if weights.sha256(file) != about["sha256"]:
        raise StartError(f"{file} is not what {name}.json beside it describes; run `dvc checkout --force {FOLDER}`")
    return Begun(
        weights.load(file), {k: about[k] for k in ("from", "sha256")} | {"trained_on": [PUBLIC], "digests": {}}
    )
