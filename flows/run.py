"""State that the tasks of one flow run share: DVC, terminal, tracker, outcomes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from fedsynth import params as configuration
from fedsynth.stages import plan
from fedsynth.stages.plan import AT_ONCE
from flows import dvcx
from flows.slots import Slots
from flows.terminal import Terminal


class Run:
    """One flow run. DVC allows one to write in a working directory."""

    def __init__(self, root: Path, params: configuration.Params, stages: dict[str, list[str]], terminal: Terminal):
        self.root, self.params, self.stages, self.terminal = root, params, stages, terminal
        self.runner = dvcx.Runner(root, AT_ONCE)
        self.tracker = Tracking(root, params)
        self.slots = Slots(AT_ONCE)
        self.stale: set[str] = set()
        # the stages that look at what lies outside of the graph: what else is stale is known after them
        self.first: list[str] = []
        self.outcomes: dict[str, str] = {}
        self._lock = threading.Lock()

    def look(self) -> None:
        """Ask DVC what is stale. Before the stages of `first` have run it names these, after them all others."""
        stale, outward = dvcx.stale(self.root, self.stages)
        self.first = [stage for stage in self.stages if stage in outward]
        self.stale = stale

    def has_work(self, address: str) -> bool:
        """Whether a stage is to be run: it looks outside, or it is stale, as all that follows from a stale one."""
        return address in self.first or address in self.stale

    def took(self, address: str, seconds: float) -> None:
        """Keep how long a stage took, for the next `fedsynth plan`."""
        with self._lock:
            plan.keep_time(self.root, address, seconds)

    def priority(self, address: str) -> int:
        """Models in the order of params.yaml, which names the longest training first; then what belongs to no model."""
        models = list(self.params.models)
        model = address.partition("@")[2]
        return models.index(model) if model in models else len(models)


class Tracking:
    """The MLflow run of this flow run, opened in the background: it takes seconds and nothing waits for it before the
    first round.
    """

    def __init__(self, root: Path, params: configuration.Params):
        self.root, self.params = root, params
        self._ready: threading.Thread | None = None
        self._tracker: Any = None
        self._error: BaseException | None = None

    def open(self, name: str, tags: dict[str, str]) -> None:
        self._ready = threading.Thread(target=self._open, args=(name, tags), daemon=True)
        self._ready.start()

    def _open(self, name: str, tags: dict[str, str]) -> None:
        try:
            from fedsynth.registry.tracking import Tracker

            self._tracker = Tracker(self.root, self.params, name=name, tags=tags)
        except BaseException as error:  # raised in whoever asks for the tracker
            self._error = error

    def get(self) -> Any:
        assert self._ready is not None, "the tracker is opened by the flow"
        self._ready.join()
        if self._error is not None:
            raise self._error
        return self._tracker

    def close(self, status: str) -> None:
        if self._ready is not None and self._error is None:
            self.get().close(status)
