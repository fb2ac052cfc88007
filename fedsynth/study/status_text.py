"""`fedsynth status` as text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from fedsynth.stages.plan_text import duration

RUNNING = "running"


def words(told: dict[str, Any], now: datetime | None = None) -> str:
    """Return the status in lines. `told`: as from fedsynth/study/status.py; `now`: for how long ago something was."""
    now = now or datetime.now(UTC)
    lines = [f"study     {told['study']} in {told['folder']}, over {told['federation']}{_version(told['fedsynth'])}"]
    lines += _run(told["run"], now)
    lines += _stale(told["stale"])
    lines += _models(told["models"])
    disk = {what: n for what, n in told["disk"].items() if n}
    lines.append(
        f"disk      {megabytes(sum(disk.values()))}: {', '.join(f'{w} {megabytes(n)}' for w, n in disk.items())}"
    )
    return "\n".join(lines)


def megabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _version(version: dict[str, str | None]) -> str:
    if version["made_by"] in (None, version["installed"]):
        return ""
    return f"\n          made by fedsynth {version['made_by']}, installed is {version['installed']}: `fedsynth upgrade`"


def _run(run: dict[str, Any] | None, now: datetime) -> Iterator[str]:
    if run is None:
        yield "run       none yet"
        return
    experiment = f", the experiment {run['experiment']}" if run["experiment"] else ""
    if run["outcome"] == RUNNING:
        yield f"run       going on, began {_ago(run['began'], now)}{experiment}"
        for stage in run["running"]:
            rounds = run["rounds"].get(stage)
            yield f"          {stage}{f', round {rounds[0]} of {rounds[1]}' if rounds else ''}"
        if run["waiting"]:
            yield f"          then {', '.join(run['waiting'])}"
    else:
        yield f"run       {run['outcome']} {_ago(run['ended'] or run['began'], now)}{experiment}"
        if run["said"]:
            yield f"          {run['said']}"
        if run["outcome"] != "completed" and run["succeeded"]:
            yield f"          the last one without a failure ended {_ago(run['succeeded'], now)}"
    if run["sites"]:
        yield f"sites     answered in the last round: {', '.join(run['sites'])}"
    for site, why in run["left_out"].items():
        yield f"          {site} was left out: {why}"


def _ago(time: str, now: datetime) -> str:
    seconds = max((now - datetime.fromisoformat(time)).total_seconds(), 0)
    if seconds >= 2 * 24 * 3600:
        return f"{seconds / 24 / 3600:.0f} days ago"
    return f"{seconds / 3600:.0f} h ago" if seconds >= 2 * 3600 else f"{duration(seconds)} ago"


def _stale(stale: dict[str, list[str]]) -> Iterator[str]:
    if not stale:
        yield "stale     nothing: a run would do nothing"
        return
    if "error" in stale:
        yield f"stale     not known: {stale['error'][0]}"
        return
    yield f"stale     {len(stale)} stages would run; `fedsynth plan` has all reasons and the time"
    first, why = next(iter(stale.items()))
    yield f"          {first}: {why[0]}"


def _models(models: dict[str, Any]) -> Iterator[str]:
    if "error" in models:
        yield f"models    not known, the registry does not answer: {models['error']}"
        return
    if not models:
        yield "models    none is registered yet"
    for number, (model, of) in enumerate(models.items()):
        champion = f"champion is version {of['champion']}" if of["champion"] else "no champion"
        stale = "".join(f"; {of[key]}" for key in ("stale", "by_hand") if of[key])
        newest = f"newest version {of['newest']}: {of['gates']}"
        yield f"{'models' if not number else '':<10}{model}: {champion}; {newest}{stale}"
