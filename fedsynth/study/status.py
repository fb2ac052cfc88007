"""`fedsynth status`: what runs, how the last run ended, versions in use, what is stale, what is on disk."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedsynth import __version__
from fedsynth.errors import UserError
from fedsynth.params import Params, study_of
from fedsynth.settings import Settings, masked
from fedsynth.stages import last_run, plan
from fedsynth.study import layout
from fedsynth.study.leftovers import size

# what a study keeps, and where
PLACES = {
    "data": ["data"],
    "models and reports": ["models", "reports"],
    "DVC's cache": [".dvc/cache"],
    "work of jobs, sites' states": [".work"],
    "MLflow": ["mlflow.db", "mlruns", "mlartifacts"],
    "Prefect": [".prefect"],
}


def status(root: Path, params: Params, settings: Settings) -> dict[str, Any]:
    """Return all of it, for people and programs: times are ISO 8601 in UTC, sizes bytes, durations seconds."""
    return {
        "study": study_of(root),
        "folder": str(root),
        "fedsynth": {"installed": __version__, "made_by": _made_by(root)},
        "federation": settings.federation,
        "run": _run(root),
        "stale": _stale(root, params, settings),
        "models": _models(root, params),
        "disk": {what: size([root / p for p in places if (root / p).exists()]) for what, places in PLACES.items()},
    }


def _made_by(root: Path) -> str | None:
    return layout.made(root).version if (root / layout.MADE).is_file() else None


def _run(root: Path) -> dict[str, Any] | None:
    """Return the run that is going on, or the last one; None before the first."""
    if not (told := last_run.read(root)):
        return None
    going = [stage for stage, of in told["stages"].items() if of["state"] == last_run.RUNNING]
    waiting = [stage for stage, of in told["stages"].items() if of["state"] == last_run.WAITING]
    ended = told["outcome"] != last_run.RUNNING
    return {
        "outcome": told["outcome"],
        "said": told["said"],
        "began": _time(told["began"]),
        "ended": _time(told["ended"]),
        "succeeded": _time(told["succeeded"]),
        "experiment": told["experiment"],
        "running": [] if ended else going,
        "waiting": [] if ended else waiting,
        "rounds": {} if ended else {stage: told["rounds"][stage] for stage in going if stage in told["rounds"]},
        "sites": told["sites"],
        "left_out": told["left_out"],
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _stale(root: Path, params: Params, settings: Settings) -> dict[str, list[str]]:
    """Return the stages that a run would do again, each with the reasons; {"error"} where the source is not there."""
    try:
        return {line.stage: line.why for line in plan.plan(root, params, settings).stale}
    except UserError as error:
        return {"error": [str(error)]}


def _models(root: Path, params: Params) -> dict[str, Any]:
    """Return for each model its newest version, the champion, and what the gates say; {"error"} if nobody answers."""
    from fedsynth.registry import aliases, by_hand, promotion, stale, versions
    from fedsynth.registry.place import there

    if not there(root):
        return {}
    found: dict[str, Any] = {}
    for model in params.models:
        try:
            newest = versions.version_of(root, model)
            champion = versions.alias_of(root, model, aliases.CHAMPION)
            changed = by_hand.changed(root, model)
        except versions.RegistryError:  # not registered yet
            continue
        except Exception as error:  # of MLflow, SQLAlchemy or a driver: the rest of the status is known all the same
            return {"error": masked(str(error)).splitlines()[0]}
        said = stale.said(f"version {newest.version}", newest.tags)
        found[model] = {
            "newest": int(newest.version),
            "champion": None if champion is None else int(champion),
            "gates": promotion.said(newest.tags),
            "stale": said,
            "by_hand": changed,
        }
    return found
