"""How much of a run is left: from the plan, and from what has happened since it began."""

from __future__ import annotations

import time

from fedsynth.stages.plan import Plan
from fedsynth.stages.plan_text import duration


class Left:
    """Knows which stages of a plan run since when, and which have ended. `plan`: with the stages' expected times."""

    def __init__(self, plan: Plan):
        self._expected = {line.stage: line.seconds for line in plan.running}
        self._plan, self._ended = plan, set[str]()
        self._ends: dict[str, float | None] = {}  # of stages that run; None if unknown

    def start(self, stage: str) -> None:
        self._ended.discard(stage)  # a second try
        expected = self._expected.get(stage)
        self._ends[stage] = None if expected is None else time.monotonic() + expected

    def round(self, stage: str, seconds: float | None) -> None:
        """Take what a training says of itself, which is better than what the plan expected."""
        if seconds is not None:
            self._ends[stage] = time.monotonic() + seconds

    def end(self, stage: str) -> None:
        self._ends.pop(stage, None)
        self._ended.add(stage)

    def words(self) -> str:
        """Return "about 12 min 3 s left"; "" if that is unknown, or nothing is left."""
        now = time.monotonic()
        running = {stage: None if at is None else max(at - now, 0.0) for stage, at in self._ends.items()}
        seconds = self._plan.seconds(self._ended, running)
        return f"about {duration(seconds)} left" if seconds else ""
