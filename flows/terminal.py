"""Terminal output of a run: stages, rounds, losses, time left of a training and of the run.

Plain lines where there is no terminal.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from fedsynth.stages.plan import AT_ONCE, Plan
from fedsynth.stages.plan_text import how_long
from flows.left import Left
from flows.record import Record

MARKS = {
    "ran": ("✔", "green"), "restored": ("↺", "cyan"), "unchanged": ("·", "dim"),
    "failed": ("✘", "red"), "ended": ("✘", "yellow"), "left": ("–", "yellow"),
}  # fmt: skip


class Terminal:
    """A line for each finished stage and a bar for each running one. Thread safe, because stages run concurrently.

    `plan`: of the run, for the time that is left. `record`: of the run, which takes the same events.
    """

    def __init__(self, total: int, plan: Plan, console: Console | None = None, record: Record | None = None):
        self.record = record
        self.console = console or Console(highlight=False)
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<19}"),
            BarColumn(24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self.console,
            transient=True,
        )
        self.total, self._ended = total, set[str]()
        self._plan, self._left = plan, Left(plan)
        self._whole = self.progress.add_task("run", total=total, note="")
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Terminal:
        running, stages = len(self._plan.running), len(self._plan.lines)
        self.console.print(
            f"{running} of {stages} stages to run, at most {AT_ONCE} at the same time: {how_long(self._plan)}"
        )
        if self.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.progress.stop()

    def start(self, stage: str) -> None:
        with self._lock:
            self._started[stage] = time.monotonic()
            self._ended.discard(stage)  # a second try
            if stage not in self._tasks:
                self._tasks[stage] = self.progress.add_task(stage, total=None, note="")
            self._left.start(stage)
            self._whole_left()
        if self.record:
            self.record.start(stage)
        if not self.console.is_terminal:
            self.console.print(f"  … {stage}")

    def round(self, stage: str, event: dict[str, Any], losses: str) -> None:
        left = "" if event["left"] is None else f"  {event['left']:.0f} s left"
        note = f"round {event['round'] + 1}/{event['rounds']}  {losses}{left}"
        with self._lock:
            if stage.startswith("train@"):  # after the rounds of `reference` there is more to do
                self._left.round(stage, event["left"])
            whole = self._whole_left()
        if self.record:
            self.record.round(stage, event)
        self.progress.update(self._tasks[stage], total=event["rounds"], completed=event["round"] + 1, note=note)
        if not self.console.is_terminal:
            self.console.print(f"    {stage}: {note}{f'  (run: {whole})' if whole else ''}", soft_wrap=True)

    def _whole_left(self) -> str:
        words = self._left.words()
        self.progress.update(self._whole, completed=len(self._ended), note=words)
        return words

    def say(self, stage: str, line: str) -> None:
        self.progress.update(self._tasks[stage], note=Text(line[:90]).plain)

    def warn(self, line: str) -> None:
        """Print a line that stays on the screen."""
        self.console.print(Text(line, style="yellow"), soft_wrap=True)

    def end(self, stage: str, outcome: str, note: str = "") -> None:
        with self._lock:
            self._ended.add(stage)
            now = time.monotonic()
            seconds = now - self._started.get(stage, now)
            if (task := self._tasks.pop(stage, None)) is not None:
                self.progress.remove_task(task)
            self._left.end(stage)
            whole = self._whole_left()
        if self.record:
            self.record.stage(stage, outcome, seconds)
        mark, style = MARKS[outcome]
        line = Text.assemble(
            (f"  {mark} ", style),
            f"{stage:<19}",
            (f"{outcome:<10}", style),
            f"{seconds:6.1f} s",
            f"   {len(self._ended)}/{self.total}",
            f"   {whole}" if whole else "",
        )
        self.console.print(line)
        if note:
            self.console.print(Text(note, style=style))
