"""The hospital's side of every job: what it reads, where it keeps its state, and the one door through which anything leaves."""

from __future__ import annotations

import hashlib
import json
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import nvflare.client as flare
from nvflare.client import FLModel

from fedsynth import manifest as table
from fedsynth import outgoing
from fedsynth.dataset import ImageSet
from fedsynth.params import Params
from fedsynth.settings import Settings

Arrays = dict[str, np.ndarray]


class Site:
    """What a job's client may know: its name, its folders (from its own environment, never from the job) and the job's question."""

    def __init__(self, script: str):
        flare.init()
        self.name: str = flare.get_site_name()
        self.settings = Settings.read()
        self.config: dict[str, Any] = json.loads(Path(script).with_name("job.json").read_text())
        self.params = Params.model_validate(self.config["params"]) if "params" in self.config else None

    @property
    def data(self) -> Path:
        return self.settings.data / self.name

    @property
    def state(self) -> Path:
        return self.settings.state / self.name

    def seed(self) -> int:
        """The site's own: sites must not draw the same noise."""
        return int.from_bytes(hashlib.sha256(f"{self.params.seed}:{self.name}".encode()).digest()[:4], "big")

    def validated_set(self) -> ImageSet:
        """The site's images, if they are those that passed. Raises SetError where their digest has not passed validation."""
        real = ImageSet.load(self.data)
        if table.digest(real.manifest) != self.config["digests"].get(self.name):
            raise table.SetError(f"{self.name}: the data at this site are not those that passed validation; run validate again")
        return real

    def tasks(self) -> Iterator[FLModel]:
        while flare.is_running():
            if (model := flare.receive()) is not None:
                yield model

    def answer(self, job: str, answer: dict[str, Any]) -> None:
        """Send an answer to a question; only what DESIGN's table lists may leave, all else is refused here."""
        known = outgoing.vocabulary(job, self.params, self.name, self.config.get("name", ""))
        allowed = outgoing.leave(job, answer, known, self.params.consortium.min_cell)
        flare.send(FLModel(params={"none": np.zeros(1, np.float32)}, meta={"answer": allowed}))

    def update(self, difference: Arrays, received: Arrays, facts: dict[str, Any], players: Collection[str]) -> None:
        """Send a round's difference and the losses of its players."""
        allowed = outgoing.leave("train", facts, players)
        arrays = outgoing.leave_arrays(difference, {name: a.shape for name, a in received.items()})
        metrics = {f"loss/{player}": loss for player, loss in allowed["losses"].items()}
        metrics |= {"steps": float(allowed["steps"]), "weight": allowed["weight"]}
        flare.send(FLModel(params=arrays, params_type="DIFF", metrics=metrics, meta={"weight": allowed["weight"]}))


def main(script: str, work: Callable[[Site], None]) -> None:
    """Run a client: any error is one line in the log that names the site, then the process ends at once.

    A script that only raises is noticed late or never (in external processes FLARE waits for a heartbeat to fail).
    """
    name = "?"
    try:
        site = Site(script)
        name = site.name
        work(site)
    except Exception as error:
        traceback.print_exc()
        text = " ".join(str(error).split())
        print(f"FEDSYNTH FAILED site {name}: {type(error).__name__}: {text}", flush=True)
        sys.stdout.flush()
        raise
