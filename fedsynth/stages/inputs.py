"""The inputs of each stage besides other stages' outputs, one file each: code, values of params.yaml, and where it
runs.

The stage `source`, which always runs, writes data/inputs/<stage>.json; a stage is stale where its file has another
content. Values are those in force, defaults filled in: a key that is left out is no other than the one that says the
default. DVC's own comparison of parameters is not used: it wants every key to be there, and its run cache leaves out
keys of the name `size`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fedsynth.data.outputs import text
from fedsynth.errors import UserError
from fedsynth.params import Params
from fedsynth.settings import Settings
from fedsynth.stages import code

FOLDER = Path("data") / "inputs"
ALL = "params.yaml.json"  # what params.yaml said when the run began
CHECKED = Path(".work") / "checked"  # the digest of what a stage uses, as it was when params.yaml had no problem


class DagError(UserError):
    """dvc.yaml cannot be used; the message names the stage."""


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.yaml, or one model's instance of it: its address ("train@vae"), what it runs, and the keys that it
    uses.
    """

    address: str
    command: str
    keys: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[str, ...]

    @property
    def file(self) -> Path:
        return FOLDER / f"{self.address}.json"

    @property
    def is_job(self) -> bool:
        """Whether it runs a job at the sites."""
        return "nvflare_jobs." in self.command

    @property
    def entry(self) -> tuple[str, ...]:
        """Modules that its command runs, at the centre and at the sites."""
        module, *words = self.command.removeprefix("python -m ").split()
        if module == "fedsynth":
            return (f"fedsynth.stages.{words[0]}",)
        return (module, f"{module.rpartition('.')[0]}.client")

    def feeds(self, other: Stage) -> bool:
        """Whether another stage depends on an output of this one, on what lies in it, or on a folder that holds it."""
        return any(
            f"{out}/".startswith(f"{dep}/") or f"{dep}/".startswith(f"{out}/")
            for out in self.outs
            for dep in other.deps
        )


def stages(root: Path, models: Iterable[str]) -> list[Stage]:
    """Those of dvc.yaml whose inputs are told by a file, in its order. Raises DagError naming a stage that is not
    understood.
    """
    path = root / "dvc.yaml"
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]
    except FileNotFoundError as error:
        raise DagError(f"{path} is not there; run from the project's folder") from error
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise DagError(f"{path} cannot be read: {error}; bring it back with `git checkout dvc.yaml`") from error
    told = {name: of for name, of in raw.items() if not of.get("always_changed")}
    return [stage for name, of in told.items() for stage in _instances(name, of, list(models))]


def _instances(name: str, of: dict[str, Any], models: list[str]) -> Iterator[Stage]:
    if "foreach" not in of:
        yield _stage(name, of, "")
        return
    if of["foreach"] != "${models}":
        raise DagError(
            f"dvc.yaml: stage {name}: foreach is {of['foreach']!r}; stages are dealt out by ${{models}} alone"
        )
    for model in models:
        yield _stage(f"{name}@{model}", of["do"], model)


def _stage(address: str, of: dict[str, Any], model: str) -> Stage:
    def filled(texts: list[Any]) -> tuple[str, ...]:
        return tuple(str(next(iter(t)) if isinstance(t, dict) else t).replace("${key}", model) for t in texts)

    keys = filled(of.get("meta", {}).get("params", []))
    outs = filled([*of.get("outs", []), *of.get("metrics", [])])
    made = Stage(address, of["cmd"].replace("${key}", model), keys, filled(of.get("deps", [])), outs)
    if made.file.as_posix() not in made.deps:
        raise DagError(
            f"dvc.yaml: stage {address} does not depend on {made.file}, so that it would miss changes of code and"
            " params.yaml"
        )
    return made


def of_stage(stage: Stage, raw: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """{"code": {module: digest}, "params": {key: value}, "where": ...} of one stage; `raw` is all of params.yaml with
    its defaults.
    """
    values = {key: _plain(_value(raw, key, stage.address)) for key in stage.keys}
    where = settings.federation if stage.is_job else "simulation" if settings.simulation else "production"
    content = {"code": code.digests(stage.entry, class_paths(values)), "params": values, "where": where}
    # a hospital's own is not known here; of a simulation it is this environment's
    return content | ({"min_cell": settings.min_cell} if stage.is_job and settings.simulation else {})


def _plain(value: Any) -> Any:
    """With the arguments of every block in the order of their names: they are arguments by name."""
    if isinstance(value, dict):
        found = {key: _plain(of) for key, of in value.items()}
        return found | {"args": dict(sorted(found["args"].items()))} if isinstance(found.get("args"), dict) else found
    return [_plain(of) for of in value] if isinstance(value, list) else value


def _value(raw: dict[str, Any], key: str, stage: str) -> Any:
    found: Any = raw
    for part in key.split("."):
        if not isinstance(found, dict) or part not in found:
            raise DagError(
                f"dvc.yaml: stage {stage} uses {key}, which params.yaml cannot have; did a key get another name?"
            )
        found = found[part]
    return found


def class_paths(values: Any) -> Iterator[str]:
    """Every class that a block among the values names."""
    if isinstance(values, dict):
        if isinstance(path := values.get("class_path"), str):
            yield path
        for value in values.values():
            yield from class_paths(value)
    elif isinstance(values, list):
        for value in values:
            yield from class_paths(value)


def texts(root: Path, params: Params, settings: Settings) -> dict[Path, str]:
    """The content of every stage's file, and of the one that holds all of params.yaml, by its place in the project."""
    raw = params.model_dump(mode="json")
    found = {stage.file: text(of_stage(stage, raw, settings)) for stage in stages(root, params.models)}
    return found | {FOLDER / ALL: text(raw)}


def changed(root: Path, wanted: dict[Path, str]) -> bool:
    """Whether a stage's file is not there or has another content."""
    return any(
        not (root / file).is_file() or (root / file).read_text(encoding="utf-8") != of for file, of in wanted.items()
    )


def write(root: Path, wanted: dict[Path, str]) -> None:
    """data/inputs/<stage>.json of every stage; those of models that are gone go, too."""
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for path in set(folder.glob("*.json")) - {root / file for file in wanted}:
        path.unlink()
    for file, content in wanted.items():
        (root / file).write_text(content, encoding="utf-8")


def checked(root: Path, wanted: dict[Path, str], settings: Settings) -> None:
    """Check params.yaml whole, unless it was good when everything that a stage uses was as it is now: that imports
    torch.

    Raises ParamsError with every problem.
    """
    digest = hashlib.sha256(
        "".join([*wanted.values(), *code.digests(["fedsynth.checks"]).values()]).encode()
    ).hexdigest()
    mark = root / CHECKED
    if mark.is_file() and mark.read_text(encoding="utf-8") == digest:
        return
    from fedsynth import checks

    checks.check(root / "params.yaml", source=settings.simulation)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(digest, encoding="utf-8")


def params_of_run(root: Path, settings: Settings) -> Params:
    """params.yaml. Of a stage that DVC runs: as it was when the run began, whatever was written into it since.

    DVC has the values and the code of that moment down as what the stage was made of. Raises DagError where the code,
    or where it runs, is not what it was then.
    """
    from fedsynth import checks

    address = os.environ.get("DVC_STAGE", "")
    if not address or not (root / FOLDER / f"{address}.json").is_file():
        return checks.load_or_list(root / "params.yaml", settings.simulation)
    params = Params.model_validate(json.loads((root / FOLDER / ALL).read_text(encoding="utf-8")))
    raw = params.model_dump(mode="json")
    for stage in stages(root, params.models):
        file = (root / stage.file).read_text(encoding="utf-8")
        if stage.address == address and file != text(of_stage(stage, raw, settings)):
            raise DagError(f"{address}: its code or its environment has changed since this run began; run again")
    return params


def code_digest(root: Path, address: str) -> str:
    """Of the code that a stage is made of; nothing where DVC does not run it."""
    path = root / FOLDER / f"{address}.json"
    if not path.is_file():
        return ""
    content = json.loads(path.read_text(encoding="utf-8"))["code"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
