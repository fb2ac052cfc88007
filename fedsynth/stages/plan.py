"""What a run would do: which stages would run and why, computed from dvc.lock and DVC's cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fedsynth.params import Params
from fedsynth.settings import Settings
from fedsynth.stages import inputs

# Stages that the flow runs beside each other. Two jobs of three sites each fill two cores; more would only queue for
# them. Prefect's threads wait for upstream stages, too, so that a limit on the threads would let a waiting stage keep a
# ready one from running.
AT_ONCE = 2
ORDER = "the order of "  # begins what stands for the order of a mapping's keys
TIMES = Path(".work") / "times.json"  # stage -> seconds of the last time that it ran, which the flow writes


@dataclass
class Line:
    """One stage: why it would run (nothing: it is up to date), and how long it takes, as far as that is known."""

    stage: str
    why: list[str] = field(default_factory=list)
    seconds: float | None = None
    from_last_time: bool = False

    @property
    def runs(self) -> bool:
        return bool(self.why)


@dataclass
class Plan:
    lines: list[Line]
    waits_for: dict[str, list[str]]

    @property
    def running(self) -> list[Line]:
        return [line for line in self.lines if line.runs]

    def seconds(self) -> float | None:
        """Of the whole run, with AT_ONCE stages beside each other; None where a stage's time is not known."""
        ends: dict[str, float] = {}
        free = [0.0] * AT_ONCE
        for line in self.running:
            if line.seconds is None:
                return None
            ready = max((ends.get(stage, 0.0) for stage in self.waits_for[line.stage]), default=0.0)
            slot = min(range(AT_ONCE), key=lambda n: free[n])
            ends[line.stage] = free[slot] = max(ready, free[slot]) + line.seconds
        return max(ends.values(), default=0.0)


def plan(root: Path, params: Params, settings: Settings, estimates: dict[str, float] | None = None) -> Plan:
    """Every stage of dvc.yaml, those that would run with their reasons. `estimates` are seconds of stages that have not
    run yet.

    The source's files are looked at in simulation only: in a federation the sites are asked when it runs.
    """
    stages, raw = inputs.stages(root, params.models), params.model_dump(mode="json")
    lock, times = _lock(root), times_of(root)
    files = _outside(params, settings)
    lines: dict[str, Line] = {}
    waits_for = {stage.address: [u.address for u in stages if u.feeds(stage)] for stage in stages}
    for stage in stages:
        locked = lock.get(stage.address)
        why = list(_reasons(root, stage, raw, settings, locked, files)) or list(_upstream(root, locked, stages, lock))
        running = [u for u in waits_for[stage.address] if u in lines and lines[u].runs]
        why = why or [f"follows from {u}" for u in running[:1]]
        # with other values it may take any time
        last = None if any(" → " in reason or "ran over" in reason for reason in why) else times.get(stage.address)
        seconds = last if last is not None else (estimates or {}).get(stage.address)
        lines[stage.address] = Line(stage.address, why, seconds, last is not None)
    return Plan(list(lines.values()), waits_for)


def _reasons(root: Path, stage: inputs.Stage, raw: dict[str, Any], settings: Settings, locked: dict[str, Any] | None,
             files: dict[str, str]) -> Iterator[str]:  # fmt: skip
    """Why a stage is stale in itself, whatever the stages before it do."""
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
            yield "the files of the source have changed" if "source" in path else "the set of sample.given has changed"
    if locked.get("cmd") != stage.command:
        yield "its command has changed"
    yield from (f"{out} is not there" for out in stage.outs if not (root / out).exists())


def _upstream(
    root: Path, locked: dict[str, Any] | None, stages: list[inputs.Stage], lock: dict[str, Any]
) -> Iterator[str]:
    """Outputs of other stages that were made anew since this one ran."""
    made = {out["path"]: out.get("md5", "") for s in stages for out in lock.get(s.address, {}).get("outs", [])}
    for dep in (locked or {}).get("deps", []):
        path, before = dep["path"], dep.get("md5", "")
        inside = {out: md5 for out, md5 in made.items() if out.startswith(f"{path}/")}
        now = made.get(path) or (_md5_of_folder(root, path, inside) if inside else before)
        if now != before:
            yield f"{path} is another"


def _md5_of_folder(root: Path, folder: str, inside: dict[str, str]) -> str:
    """As DVC has it down: of the list of files, which are those of the outputs in the folder."""
    files = []
    for out, md5 in inside.items():
        name = out.removeprefix(f"{folder}/")
        if not md5.endswith(".dir"):
            files.append({"md5": md5, "relpath": name})
            continue
        listed = root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
        if listed.is_file():
            files += [file | {"relpath": f"{name}/{file['relpath']}"} for file in json.loads(listed.read_text(encoding="utf-8"))]
    return _md5(json.dumps(sorted(files, key=lambda file: file["relpath"]), sort_keys=True)) + ".dir"


def differences(before: dict[str, Any] | None, now: dict[str, Any]) -> list[str]:
    """What of a stage's inputs is another than before, in words; one sentence where nothing is known of before."""
    if before is None:
        return ["its inputs have changed"]
    found = [f"ran over {before['where']}, not {now['where']}"] if before["where"] != now["where"] else []
    smallest = before.get("min_cell"), now.get("min_cell")
    found += (
        [f"FEDSYNTH_MIN_CELL: {smallest[0]} → {smallest[1]}"] if None not in smallest and len({*smallest}) > 1 else []
    )
    was, are = dict(_leaves(before["params"])), dict(_leaves(now["params"]))
    keys = [key for key in {**was, **are} if was.get(key, "") != are.get(key, "")]
    values = [f"{key}: {_said(was, key)} → {_said(are, key)}" for key in keys if not key.startswith(ORDER)]
    found += values or keys  # of keys that came or went the order is no news
    code = [name for name in {**before["code"], **now["code"]} if before["code"].get(name) != now["code"].get(name)]
    rest = f" and {len(code) - 3} more" if len(code) > 3 else ""
    return found + ([f"code: {', '.join(code[:3])}{rest}"] if code else [])


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, of in value.items():
            yield from _leaves(of, f"{path}.{key}" if path else str(key))
        yield f"{ORDER}{path}", list(value)
    else:
        yield path, value


def _said(values: dict[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "not there"


def _outside(params: Params, settings: Settings) -> dict[str, str]:
    """What the files that tell of things outside of the graph would hold now, as far as that is known here."""
    from fedsynth.data import outputs
    from fedsynth.stages import ingest

    found = {"data/given.json": outputs.text(ingest.fingerprint_given(params))}
    if settings.simulation:
        found["data/source.json"] = outputs.text(ingest.fingerprint(params))
    return found


def _lock(root: Path) -> dict[str, Any]:
    path = root / "dvc.lock"
    if not path.is_file():
        return {}
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))["stages"] or {}
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise inputs.DagError(f"{path} cannot be read: {error}; bring it back with `git checkout dvc.lock`") from error


def _cached(root: Path, md5: str) -> dict[str, Any] | None:
    """A file of inputs as it was when the stage ran last, from DVC's cache; None where it is not there any more."""
    path = root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    return json.loads(path.read_text(encoding="utf-8")) if md5 and path.is_file() else None


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def times_of(root: Path) -> dict[str, float]:
    path = root / TIMES
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):  # times are a help, not a result
        return {}


def keep_time(root: Path, stage: str, seconds: float) -> None:
    """How long a stage took, for the next plan."""
    path = root / TIMES
    path.parent.mkdir(parents=True, exist_ok=True)
    times = times_of(root) | {stage: round(seconds, 1)}
    path.with_suffix(".part").write_text(json.dumps(times, indent=1), encoding="utf-8")
    path.with_suffix(".part").replace(path)
