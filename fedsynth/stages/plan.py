"""The plan of a run: which stages would run and why, from dvc.lock and DVC's cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fedsynth.params import Params
from fedsynth.registry import starts
from fedsynth.settings import Settings
from fedsynth.stages import inputs, outside

# Maximum number of stages that the flow runs at the same time: two jobs of three sites each fill two cores. A limit on
# Prefect's threads would not do, because its threads also wait for upstream stages and would block ready ones.
AT_ONCE = 2
SOURCE, PRETRAIN, REGISTER = "source", "pretrain", "register"
# Stages of every run, with what they do: the first of dvc.yaml, and the flow's own last ones (flows/pipeline.py)
ALWAYS = {
    SOURCE: "in every run: checks params.yaml, and whether the source's files have changed",
    REGISTER: "in every run: registers the model and its scores in MLflow",
}
QUICK_S = 5.0  # of a stage of every run
ORDER = "another order of "  # prefix of the entry for the order of a mapping's keys
TIMES = Path(".work") / "times.json"  # {stage: seconds} of its last run, written by the flow


@dataclass
class Line:
    """A stage of the plan.

    `why`: the reasons for which it would run, empty if it is up to date; `seconds`: its duration, None if unknown, of
    its last run if `from_last_time`; `always`: it is a stage of every run.
    """

    stage: str
    why: list[str] = field(default_factory=list)
    seconds: float | None = None
    from_last_time: bool = False
    always: bool = False

    @property
    def runs(self) -> bool:
        return bool(self.why)


@dataclass
class Plan:
    """The stages in the order of their run, and for each the stages that it waits for."""

    lines: list[Line]
    waits_for: dict[str, list[str]]

    @property
    def running(self) -> list[Line]:
        return [line for line in self.lines if line.runs]

    @property
    def stale(self) -> list[Line]:
        """The stages that would run because something has changed."""
        return [line for line in self.running if not line.always]

    def seconds(self, ended: Collection[str] = (), left: Mapping[str, float | None] | None = None) -> float | None:
        """Return the seconds until the end of the run with AT_ONCE stages at the same time; None if one is unknown.

        `ended`: stages that are done; `left`: stage -> seconds left of each that runs, None if unknown.
        """
        begun = left or {}
        lines = sorted((line for line in self.running if line.stage not in ended), key=lambda of: of.stage not in begun)
        ends: dict[str, float] = {}
        free = [0.0] * AT_ONCE
        for line in lines:
            seconds = begun.get(line.stage, line.seconds)
            if seconds is None:
                return None
            ready = max((ends.get(stage, 0.0) for stage in self.waits_for[line.stage]), default=0.0)
            slot = min(range(AT_ONCE), key=lambda n: free[n])
            ends[line.stage] = free[slot] = max(ready, free[slot]) + seconds
        return max(ends.values(), default=0.0)


def plan(root: Path, params: Params, settings: Settings, estimates: dict[str, float] | None = None) -> Plan:
    """Return the plan with every stage of the flow.

    `estimates`: {stage: seconds} for stages that have not run yet. The source's files are checked in simulation only;
    in a federation the stage `source` asks the sites.
    """
    stages, raw = inputs.stages(root, params.models), params.model_dump(mode="json")
    lock, times = _lock(root), times_of(root)
    files = {path.as_posix(): text for path, text in outside.texts(params, settings).items()}
    lines = {SOURCE: _always(SOURCE, times)}
    waits_for = {stage.address: [SOURCE, *(u.address for u in stages if u.feeds(stage))] for stage in stages}
    for stage in stages:
        locked = lock.get(stage.address)
        why = list(_reasons(root, stage, raw, settings, locked, files)) or list(_upstream(root, locked, stages, lock))
        idle = {PRETRAIN} - set(_pretrained(stage, raw))
        before = [u for u in waits_for[stage.address] if u in lines and u not in idle]
        running = [u for u in before if lines[u].runs and not lines[u].always]
        why = why or [f"because {u} runs" for u in running[:1]]
        # the last duration says nothing of other values
        last = None if any(" → " in reason for reason in why) else times.get(stage.address)
        seconds = last if last is not None else (estimates or {}).get(stage.address)
        lines[stage.address] = Line(stage.address, why, seconds, last is not None)
    for model in params.models:
        address = f"{REGISTER}@{model}"
        waits_for[address] = list(lines)
        lines[address] = _always(address, times)
    return Plan(list(lines.values()), {SOURCE: [], **waits_for})


def _pretrained(stage: inputs.Stage, raw: dict[str, Any]) -> list[str]:
    """Return the stage that makes what a training begins with, where its model asks for that."""
    name, _, model = stage.address.partition("@")
    return [PRETRAIN] if name == "train" and raw["models"][model]["pretrain"] is not None else []


def _always(address: str, times: dict[str, float]) -> Line:
    why = [ALWAYS[address.partition("@")[0]]]
    return Line(address, why, times.get(address, QUICK_S), address in times, always=True)


def _reasons(root: Path, stage: inputs.Stage, raw: dict[str, Any], settings: Settings, locked: dict[str, Any] | None,
             files: dict[str, str]) -> Iterator[str]:  # fmt: skip
    """Yield why a stage is stale itself, whether or not upstream stages run."""
    if locked is None:
        yield "has not run yet"
        return
    before = {dep["path"]: dep.get("md5", "") for dep in locked.get("deps", [])}
    now = inputs.text(inputs.of_stage(stage, raw, settings))
    own = stage.file.as_posix()
    if before.get(own) != _md5(now):
        yield from differences(_cached(root, before.get(own, "")), json.loads(now)) or ["its inputs have changed"]
    for path, text in files.items():
        if path in stage.deps and before.get(path) != _md5(text):
            yield "the source's files have changed" if "source" in path else "the images of sample.given have changed"
    if locked.get("cmd") != stage.command:
        yield "its command has changed"
    yield from (f"{out} is missing" for out in stage.outs if not (root / out).exists())


def _upstream(
    root: Path, locked: dict[str, Any] | None, stages: list[inputs.Stage], lock: dict[str, Any]
) -> Iterator[str]:
    """Yield the outputs of upstream stages that have changed since this stage ran."""
    made = {out["path"]: out.get("md5", "") for s in stages for out in lock.get(s.address, {}).get("outs", [])}
    for dep in (locked or {}).get("deps", []):
        path, before = dep["path"], dep.get("md5", "")
        inside = {out: md5 for out, md5 in made.items() if out.startswith(f"{path}/")}
        now = made.get(path) or (_md5_of_folder(root, path, inside) if inside else before)
        if now != before:
            yield f"{path} has changed"


def _md5_of_folder(root: Path, folder: str, inside: dict[str, str]) -> str:
    """Return DVC's checksum of a folder: of the list of its files, here those of the outputs in it."""
    files = []
    for out, md5 in inside.items():
        name = out.removeprefix(f"{folder}/")
        if not md5.endswith(".dir"):
            files.append({"md5": md5, "relpath": name})
            continue
        listed = _cached(root, md5) or []
        files += [file | {"relpath": f"{name}/{file['relpath']}"} for file in listed]
    return _md5(json.dumps(sorted(files, key=lambda file: file["relpath"]), sort_keys=True)) + ".dir"


def differences(before: dict[str, Any] | None, now: dict[str, Any]) -> list[str]:
    """Return the changes of a stage's inputs in words; one sentence if the inputs before are unknown."""
    if before is None:
        return ["its inputs have changed"]
    outside = {"FEDSYNTH_FEDERATION": "where", "FEDSYNTH_MIN_CELL": "min_cell"}
    found = [
        f"{variable}: {before[name]} → {now[name]}"
        for variable, name in outside.items()
        if name in before and name in now and before[name] != now[name]
    ]
    was_begun, begins = (_start_said(of.get(starts.KEY)) for of in (before, now))
    found += [f"begins with: {was_begun} → {begins}"] if was_begun != begins else []
    was, are = dict(_leaves(before["params"])), dict(_leaves(now["params"]))
    keys = [key for key in {**was, **are} if was.get(key, "") != are.get(key, "")]
    values = [f"{key}: {_said(was, key)} → {_said(are, key)}" for key in keys if not key.startswith(ORDER)]
    found += values or keys  # added and removed keys change the order, too
    code = [name for name in {**before["code"], **now["code"]} if before["code"].get(name) != now["code"].get(name)]
    rest = f" and {len(code) - 3} more" if len(code) > 3 else ""
    return found + ([f"the code has changed: {', '.join(code[:3])}{rest}"] if code else [])


def _start_said(found: dict[str, Any] | None) -> str:
    """Return in short what a training begins with (registry/starts.py)."""
    if not found or "sha256" not in found:
        return "the seed's weights"
    return f"version {found['version']}" if "version" in found else f"a file of SHA-256 {found['sha256'][:12]}…"


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, of in value.items():
            yield from _leaves(of, f"{path}.{key}" if path else str(key))
        yield f"{ORDER}{path}", list(value)
    else:
        yield path, value


def _said(values: dict[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "(missing)"


def _lock(root: Path) -> dict[str, Any]:
    path = root / "dvc.lock"
    if not path.is_file():
        return {}
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))["stages"] or {}
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise inputs.DagError(f"{path} cannot be read: {error}; bring it back with `git checkout dvc.lock`") from error


def _cached(root: Path, md5: str) -> Any:
    """Return a JSON file from DVC's cache, None if it is not in it."""
    path = root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    return json.loads(path.read_text(encoding="utf-8")) if md5 and path.is_file() else None


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def times_of(root: Path) -> dict[str, float]:
    """Return {stage: seconds} of the last runs."""
    path = root / TIMES
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):  # times are not needed for a run
        return {}


def keep_time(root: Path, stage: str, seconds: float) -> None:
    """Store how long a stage took, for the next plan."""
    path = root / TIMES
    path.parent.mkdir(parents=True, exist_ok=True)
    times = times_of(root) | {stage: round(seconds, 1)}
    path.with_suffix(".part").write_text(json.dumps(times, indent=1), encoding="utf-8")
    path.with_suffix(".part").replace(path)
