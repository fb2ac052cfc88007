"""State that the tasks of one flow run share: DVC, terminal, tracker, outcomes."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from fedsynth import params as configuration
from fedsynth.settings import masked
from fedsynth.stages import plan
from fedsynth.stages.plan import AT_ONCE
from fedsynth.worth.missing import Missing
from flows import dvcx
from flows.concerns import Failure, failure
from flows.slots import Slots
from flows.terminal import Terminal


class Run:
    """The state of one flow run. DVC allows only one writer per working directory."""

    def __init__(self, root: Path, params: configuration.Params, stages: dict[str, list[str]], terminal: Terminal):
        self.root, self.params, self.stages, self.terminal = root, params, stages, terminal
        self.runner = dvcx.Runner(root, AT_ONCE)
        self.tracker = Tracking(root, params)
        self.slots = Slots(AT_ONCE)
        self.stale: set[str] = set()
        # stages that look at what is outside the graph; what else is stale is known only after them
        self.first: list[str] = []
        self.outcomes: dict[str, str] = {}
        self.failed: dict[str, BaseException] = {}  # stages that failed themselves
        self.missing: Missing = {}  # models without results in this run
        self.jobs: dict[str, str] = {}  # stage -> id of its last FLARE job
        self._lock = threading.Lock()

    def look(self) -> None:
        """Ask DVC which stages are stale.

        Called before the stages of `first` run, it finds these; called after them, it finds all other stale stages.
        """
        stale, outward = dvcx.stale(self.root, self.stages)
        self.first = [stage for stage in self.stages if stage in outward]
        self.stale = stale

    def has_work(self, address: str) -> bool:
        """Return whether a stage must run.

        It must where it looks at what is outside the graph, is stale, or follows from a stale one.
        """
        return address in self.first or address in self.stale

    def why(self, address: str) -> str:
        """Return why a stage failed, as it printed it."""
        error = self.failed[address]
        own = error.why if isinstance(error, dvcx.StageFailed) else ""
        return own or masked(f"{type(error).__name__}: {error}")

    def failures(self) -> list[Failure]:
        """Return what failed, in sentences."""
        path = self.root / "reports" / "validation.json"
        found = json.loads(path.read_text(encoding="utf-8"))["sites"] if path.is_file() else {}
        sites = [*found, *(self.params.consortium.sites or [])]
        return [failure(stage, self.why(stage), sites, self.jobs.get(stage, "")) for stage in self.failed]

    def computed(self) -> str:
        """Return what this run has computed, in a line: "train, sample, score, report; vae"."""
        done = [stage for stage, outcome in self.outcomes.items() if outcome == dvcx.RAN and stage != plan.SOURCE]
        kinds, models = (dict.fromkeys(stage.partition("@")[part] for stage in done) for part in (0, 2))
        return "; ".join(", ".join(filter(None, of)) for of in (kinds, models) if any(of)) or "registered anew"

    def took(self, address: str, seconds: float) -> None:
        """Store how long a stage took, for the next `fedsynth plan`."""
        with self._lock:
            plan.keep_time(self.root, address, seconds)

    def priority(self, address: str) -> int:
        """Return a stage's place in the queue, lowest first.

        Models come in the order of params.yaml, which lists the longest training first; then stages without a model.
        """
        models = list(self.params.models)
        model = address.partition("@")[2]
        return models.index(model) if model in models else len(models)


class Tracking:
    """The MLflow run of this flow run.

    It is opened in the background, because that takes seconds and nothing needs it before the first round.
    """

    def __init__(self, root: Path, params: configuration.Params):
        self.root, self.params = root, params
        self._ready: threading.Thread | None = None
        self._tracker: Any = None
        self._error: BaseException | None = None

    def open(self, tags: dict[str, str]) -> None:
        self._ready = threading.Thread(target=self._open, args=(tags,), daemon=True)
        self._ready.start()

    def _open(self, tags: dict[str, str]) -> None:
        try:
            from fedsynth.registry.tracking import Tracker

            self._tracker = Tracker(self.root, self.params, tags=tags)
        except BaseException as error:  # raised again by `get`
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
