"""`fedsynth plan` as text and as JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fedsynth.params import Params
from fedsynth.settings import Settings
from fedsynth.stages import estimate
from fedsynth.stages.plan import AT_ONCE, Line, Plan
from fedsynth.worth import withdrawn

LONGEST = len("about 10 min 33 s")


def words(root: Path, params: Params, settings: Settings) -> str:
    """Return the table of stages, and a summary."""
    images = estimate.images_of(root, params, settings)
    made = estimate.planned(root, params, settings, images)
    width = max(len(line.stage) for line in made.lines)
    rows = [
        f"  {'▶' if line.runs else '·'} {line.stage:<{width}}  {_time(line):>{LONGEST}}  {_why(line)}"
        for line in made.lines
    ]
    gone = withdrawn.lines(root, params.models)
    return "\n".join([_where(settings, images), "", *rows, "", *gone, *_sums(made, params, images)])


def as_json(root: Path, params: Params, settings: Settings) -> str:
    """Return the same as JSON."""
    images = estimate.images_of(root, params, settings)
    made = estimate.planned(root, params, settings, images)
    stages = [{"stage": line.stage, "runs": line.runs, "why": line.why, "seconds": line.seconds} for line in made.lines]
    found: dict[str, Any] = {
        "federation": settings.federation,
        "images": {site: n for site, (n, _) in images.items()},
        "stages": stages,
        "seconds": made.seconds(),
        "withdrawn": withdrawn.lines(root, params.models),
        "bytes": estimate.disk(params, images) if images else None,
    }
    return json.dumps(found, indent=1)


def _where(settings: Settings, images: estimate.Images) -> str:
    sites = ", ".join(f"{site} ({n} images)" for site, (n, _) in images.items())
    return (
        f"federation: {settings.federation}; cores of this machine: {os.cpu_count()}\n"
        f"sites: {sites or 'the numbers of images are known after ingest'}"
    )


def _why(line: Line) -> str:
    return "; ".join(line.why) if line.runs else "up to date"


def _time(line: Line) -> str:
    if not line.runs:
        return ""
    return "unknown" if line.seconds is None else ("" if line.from_last_time else "about ") + duration(line.seconds)


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def how_long(made: Plan) -> str:
    total = made.seconds()
    return "the time is not known yet" if total is None else f"in about {duration(total)}"


def _sums(made: Plan, params: Params, images: estimate.Images) -> list[str]:
    if not made.stale:
        return ["All other stages are up to date, unless `source` finds that files have changed."]
    lines = [
        f"{len(made.running)} of {len(made.lines)} stages would run, at most {AT_ONCE} at the same time:"
        f" {how_long(made)}.",
        "A stage that has run with the same inputs before is restored from DVC's cache instead, in about a second.",
    ]
    if images:
        size = estimate.disk(params, images)
        lines.append(f"Disk: about {size / 1e6:,.0f} MB for the files of the run, and as much again for DVC's cache.")
    return lines
