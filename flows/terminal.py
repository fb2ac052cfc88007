"""Terminal output of a run: stages, rounds, losses, time left. Plain lines where there is no terminal."""

from __future__ import annotations

import threading
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

MARKS = {
    "ran": ("✔", "green"), "restored": ("↺", "cyan"), "unchanged": ("·", "dim"),
    "failed": ("✘", "red"), "ended": ("✘", "yellow"), "left": ("–", "yellow"),
}  # fmt: skip


class Terminal:
    """A line for each finished stage and a bar for each running one. Thread safe, because stages run concurrently."""

    def __init__(self, total: int, console: Console | None = None):
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
        self.total, self.done = total, 0
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Terminal:
        if self.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.progress.stop()

    def start(self, stage: str) -> None:
        with self._lock:
            self._started[stage] = time.monotonic()
            if stage not in self._tasks:
                self._tasks[stage] = self.progress.add_task(stage, total=None, note="")
        if not self.console.is_terminal:
            self.console.print(f"  … {stage}")

    def round(self, stage: str, event: dict[str, Any], losses: str) -> None:
        left = "" if event["left"] is None else f"  {event['left']:.0f} s left"
        note = f"round {event['round'] + 1}/{event['rounds']}  {losses}{left}"
        self.progress.update(self._tasks[stage], total=event["rounds"], completed=event["round"] + 1, note=note)
        if not self.console.is_terminal:
            self.console.print(f"    {stage}: {note}")

    def say(self, stage: str, line: str) -> None:
        self.progress.update(self._tasks[stage], note=Text(line[:90]).plain)

    def warn(self, line: str) -> None:
        """Print a line that stays on the screen."""
        self.console.print(Text(line, style="yellow"), soft_wrap=True)

    def end(self, stage: str, outcome: str, note: str = "") -> None:
        with self._lock:
            self.done += 1
            now = time.monotonic()
            seconds = now - self._started.get(stage, now)
            if (task := self._tasks.pop(stage, None)) is not None:
                self.progress.remove_task(task)
        mark, style = MARKS[outcome]
        line = Text.assemble(
            (f"  {mark} ", style),
            f"{stage:<19}",
            (f"{outcome:<10}", style),
            f"{seconds:6.1f} s",
            f"   {self.done}/{self.total}",
        )
        self.console.print(line)
        if note:
            self.console.print(Text(note, style=style))
