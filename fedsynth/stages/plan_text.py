"""`fedsynth plan` as text and as JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fedsynth.params import Params
from fedsynth.settings import Settings
from fedsynth.stages import estimate
from fedsynth.stages.plan import Line, Plan, plan


def words(root: Path, params: Params, settings: Settings) -> str:
    """The table of stages, and a sentence that sums it up."""
    images = estimate.images_of(root, params, settings)
    made = _plan(root, params, settings, images)
    width = max(len(line.stage) for line in made.lines)
    rows = [
        f"  {'▶' if line.runs else '·'} {line.stage:<{width}}  {_time(line):>10}  {_why(line)}" for line in made.lines
    ]
    return "\n".join([_where(settings, images), "", *rows, "", *_sums(made, params, images)])


def as_json(root: Path, params: Params, settings: Settings) -> str:
    images = estimate.images_of(root, params, settings)
    made = _plan(root, params, settings, images)
    stages = [{"stage": line.stage, "runs": line.runs, "why": line.why, "seconds": line.seconds} for line in made.lines]
    found: dict[str, Any] = {
        "federation": settings.federation,
        "images": {site: n for site, (n, _) in images.items()},
        "stages": stages,
        "seconds": made.seconds(),
        "bytes": estimate.disk(params, images) if images else None,
    }
    return json.dumps(found, indent=1)


def _plan(root: Path, params: Params, settings: Settings, images: estimate.Images) -> Plan:
    """Steps are measured only where a stage would run of which no time is known: that takes seconds."""
    made = plan(root, params, settings)
    if all(line.from_last_time for line in made.running):
        return made
    return plan(root, params, settings, estimate.seconds(params, images))


def _where(settings: Settings, images: estimate.Images) -> str:
    sites = (
        ", ".join(f"{site} ({n} images)" for site, (n, _) in images.items())
        or "how many images there are is known once they are ingested"
    )
    return f"over {settings.federation}: {sites}; here are {os.cpu_count()} cores"


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


def _sums(made: Plan, params: Params, images: estimate.Images) -> list[str]:
    if not made.running:
        return ["Nothing is to be done, unless the stage `source`, which looks at files outside, finds a change."]
    total = made.seconds()
    long = "for a time that is not known yet" if total is None else f"for about {duration(total)}"
    said = f"{len(made.running)} of {len(made.lines)} stages would run, {long}"
    lines = [f"{said}. A stage that DVC has in its cache, of the same inputs, is restored and takes a second."]
    if images:
        size = estimate.disk(params, images)
        lines.append(f"All of a run's files take about {size / 1e6:,.0f} MB, and as much again in DVC's cache.")
    return lines
