"""The inputs of each stage except other stages' outputs, in one file: code, values of params.yaml, and federation.

The stage `source`, which runs in every run, writes data/inputs/<stage>.json; a stage is stale if the content of its
file has changed. Values include the defaults, so an omitted key and its default are the same. DVC's own comparison of
parameters is not used, because it requires every key and its run cache ignores keys named `size`.
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
from fedsynth.errors import NO_STUDY, UserError
from fedsynth.params import Params
from fedsynth.registry import starts
from fedsynth.settings import Settings
from fedsynth.stages import code

FOLDER = Path("data") / "inputs"
ALL = "params.yaml.json"  # params.yaml when the run began
CHECKED = Path(".work") / "checked"  # digest of all stages' inputs at the last successful check


class DagError(UserError):
    """dvc.yaml cannot be used; the message names the stage."""


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.yaml, or its instance for a model.

    `address`: "train@vae"; `command`: what it runs; `keys`: the keys of params.yaml that it uses.
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
        """Return whether it runs a job at the sites."""
        return "nvflare_jobs." in self.command

    @property
    def entry(self) -> tuple[str, ...]:
        """Return the modules that its command runs, at the centre and at the sites."""
        module, *words = self.command.removeprefix("python -m ").split()
        if module == "fedsynth":
            return (f"fedsynth.stages.{words[0]}",)
        return (module, f"{module.rpartition('.')[0]}.client")

    def feeds(self, other: Stage) -> bool:
        """Return whether another stage depends on an output of this one, a file in it, or a folder with it."""
        return any(
            f"{out}/".startswith(f"{dep}/") or f"{dep}/".startswith(f"{out}/")
            for out in self.outs
            for dep in other.deps
        )


def stages(root: Path, models: Iterable[str]) -> list[Stage]:
    """Return the stages of dvc.yaml that have a file of inputs, in its order. Raises DagError for an invalid stage."""
    path = root / "dvc.yaml"
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]
    except FileNotFoundError as error:
        raise DagError(f"{path} is not there; {NO_STUDY}") from error
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


def of_stage(
    stage: Stage, raw: dict[str, Any], settings: Settings, found: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the inputs of a stage: {"code": {module: digest}, "params": {key: value}, "where": federation}.

    That of a training which begins with other weights than the seed's has their digest, too, as "start". `raw`: the
    content of params.yaml with its defaults. `found`: what the run began with, which is not looked up again.
    """
    values = {key: _plain(_value(raw, key, stage.address)) for key in stage.keys}
    values |= {"models": pretrained_by(raw)} if stage.address == "pretrain" else {}
    where = settings.federation if stage.is_job else "simulation" if settings.simulation else "production"
    digests = code.digests(stage.entry, class_paths(values), settings.root)
    content: dict[str, Any] = {"code": digests, "params": values, "where": where}
    name, _, model = stage.address.partition("@")
    if name == "train" and isinstance(said := raw["models"][model]["start"], dict):
        content[starts.KEY] = starts.resolved(settings.root, said) if found is None else found
    # the smallest cell of a hospital is known in simulation only
    return content | ({"min_cell": settings.min_cell} if stage.is_job and settings.simulation else {})


def pretrained_by(raw: dict[str, Any]) -> dict[str, Any]:
    """Return of each model that asks for a pretraining what that follows from, None of the others: for these, too, the
    stage writes a file that their trainings depend on.
    """
    asked = {name: of for name, of in raw["models"].items() if of["pretrain"] is not None}
    return dict.fromkeys(raw["models"]) | {
        n: {key: of[key] for key in ("family", "pretrain")} for n, of in asked.items()
    }


def _plain(value: Any) -> Any:
    """Return a value with the arguments of its blocks sorted by name, because their order has no effect."""
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
    """Yield the class paths of all blocks."""
    if isinstance(values, dict):
        if isinstance(path := values.get("class_path"), str):
            yield path
        for value in values.values():
            yield from class_paths(value)
    elif isinstance(values, list):
        for value in values:
            yield from class_paths(value)


def texts(root: Path, params: Params, settings: Settings) -> dict[Path, str]:
    """Return {path: content} of all stages' files, and of the file with the whole params.yaml."""
    raw = params.model_dump(mode="json")
    found = {stage.file: text(of_stage(stage, raw, settings)) for stage in stages(root, params.models)}
    return found | {FOLDER / ALL: text(raw)}


def changed(root: Path, wanted: dict[Path, str]) -> bool:
    """Return whether a file is missing or has other content."""
    return any(
        not (root / file).is_file() or (root / file).read_text(encoding="utf-8") != of for file, of in wanted.items()
    )


def write(root: Path, wanted: dict[Path, str]) -> None:
    """Write data/inputs/<stage>.json of all stages, and remove other files of the folder."""
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for path in set(folder.glob("*.json")) - {root / file for file in wanted}:
        path.unlink()
    for file, content in wanted.items():
        (root / file).write_text(content, encoding="utf-8")


def checked(root: Path, wanted: dict[Path, str], settings: Settings) -> None:
    """Check params.yaml. Raises ParamsError with all problems.

    The check imports torch, so it is skipped if it has succeeded with the same inputs of stages and the same code.
    """
    digest = hashlib.sha256(
        "".join([*wanted.values(), *code.digests(["fedsynth.checks"], (), root).values()]).encode()
    ).hexdigest()
    mark = root / CHECKED
    if mark.is_file() and mark.read_text(encoding="utf-8") == digest:
        return
    from fedsynth import checks

    checks.check(root / "params.yaml", source=settings.simulation)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(digest, encoding="utf-8")


def params_of_run(root: Path, settings: Settings) -> Params:
    """Return params.yaml; in a stage that DVC runs, as it was when the run began.

    DVC records the values and the code of that moment as the inputs of the stage. Raises DagError if the code or the
    federation has changed since.
    """
    from fedsynth import checks

    address = os.environ.get("DVC_STAGE", "")
    if not address or not (root / FOLDER / f"{address}.json").is_file():
        return checks.load_or_list(root / "params.yaml", settings.simulation)
    params = Params.model_validate(json.loads((root / FOLDER / ALL).read_text(encoding="utf-8")))
    raw = params.model_dump(mode="json")
    for stage in stages(root, params.models):
        file = (root / stage.file).read_text(encoding="utf-8")
        if stage.address == address and file != text(of_stage(stage, raw, settings, json.loads(file).get(starts.KEY))):
            raise DagError(f"{address}: its code or its environment has changed since this run began; run again")
    return params


def start_of_run(root: Path, params: Params, name: str) -> dict[str, Any] | None:
    """Return what tells the weights that a training begins with (registry/starts.py), as it was when the run began."""
    path = root / FOLDER / f"train@{name}.json"
    if os.environ.get("DVC_STAGE") and path.is_file():
        kept: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")).get(starts.KEY)
        return kept
    said = params.models[name].start
    return starts.resolved(root, said.model_dump(mode="json") if said else None)


def code_digest(root: Path, address: str) -> str:
    """Return the digest of a stage's code, "" if DVC does not run it."""
    path = root / FOLDER / f"{address}.json"
    if not path.is_file():
        return ""
    content = json.loads(path.read_text(encoding="utf-8"))["code"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
