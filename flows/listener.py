"""Turns a stage's output into progress, metrics and terminal lines."""

from __future__ import annotations

import json
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.run import Run
from nvflare_jobs.centre.show import EVENT, WARNING, losses


class Listener:
    """Handles the output of one stage; called with each line that it prints."""

    def __init__(self, run: Run, address: str, log: Any):
        self.run, self.address, self.log = run, address, log
        self.model = address.partition("@")[2]
        self.artifact: Any = None

    def __call__(self, line: str) -> None:
        if not line.startswith(EVENT):
            if line.startswith(WARNING):
                self.log.warning(line)
                self.run.terminal.warn(line)
            elif line:
                self.log.info(line)
                self.run.terminal.say(self.address, line)
            return
        event = json.loads(line.removeprefix(EVENT))
        if event["kind"] == "round":
            self.round(event)
        elif event["kind"] == "job":
            self.run.jobs[self.address] = event["job_id"]
            if self.model and self.address.startswith("train@"):
                self.run.tracker.get().model(self.model, {"flare.job_id": event["job_id"]})

    def round(self, event: dict[str, Any]) -> None:
        text = losses(event["sites"])
        self.run.terminal.round(self.address, event, text)
        self.log.info("round %d/%d  %s", event["round"] + 1, event["rounds"], text)
        if self.model:  # the references' rounds belong to no model
            self.run.tracker.get().round(self.model, event)
        done, of = event["round"] + 1, event["rounds"]
        percent, described = 100 * done / of, f"{self.address}: round {done} of {of}  {text}"
        if self.artifact is None:
            key = self.address.replace("@", "-").replace("_", "-")
            self.artifact = create_progress_artifact(progress=percent, key=f"{key}-progress", description=described)
        else:
            update_progress_artifact(artifact_id=self.artifact, progress=percent, description=described)
