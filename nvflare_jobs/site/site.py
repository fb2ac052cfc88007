"""Site: the site's half of every job, with its folders, its state and its outgoing answers."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import nvflare.client as flare
from nvflare.client import FLModel
from nvflare.fuel.f3.mpm import MainProcessMonitor as mpm

from fedsynth.compression import Compression
from fedsynth.data import manifest as table
from fedsynth.data.dataset import ImageSet
from fedsynth.hospital import failures, outgoing, secret, withdrawals
from fedsynth.hospital.policy import Gate, Question
from fedsynth.hospital.policy.model import place
from fedsynth.params import Block, Params, names
from fedsynth.processes import printable
from fedsynth.settings import Settings, SettingsError, take_place
from nvflare_jobs import keys
from nvflare_jobs.keys import ENCRYPTED, OPEN
from nvflare_jobs.site import workspaces
from nvflare_jobs.site.submitter import of_job

Arrays = dict[str, np.ndarray]
DEATHS = 2
NOTHING = {"none": np.zeros(1, np.float32)}  # FLARE does not send an empty model


class JobEnded(Exception):
    """The job ended before it asked this site anything."""


class NotValidated(table.SetError):
    """The data at the site are not the data that passed validation."""


class ProcessDied(Exception):
    """Two processes of this site have died of the same task; a third would too."""


class CrashCounter:
    """Counts processes that died during a task (for instance out of memory), in a file that outlives them.

    FLARE ends a whole job where a site's process dies and does not say which site: without this count no quorum could
    continue without that site. Raises ProcessDied where two processes have died.
    """

    def __init__(self, path: Path):
        died = int(path.read_text(encoding="utf-8").split()[0]) if path.is_file() else 0
        if died >= DEATHS:
            path.unlink()  # the next run may try again
            raise ProcessDied(
                f"{died} processes have died of this task; look for the reason in the system's log (out of memory?)"
            )
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write(died + 1)
        for orderly in (atexit.register, mpm.add_cleanup_cb):
            orderly(self.end)

    def survived(self) -> None:
        self._write(1)

    def _write(self, died: int) -> None:
        """Write the count, and of which run this process is: who kills that run takes its marks away, and no others."""
        self.path.write_text(f"{died} {os.environ.get(withdrawals.RUN, '')}", encoding="utf-8")

    def end(self) -> None:
        self.path.unlink(missing_ok=True)


def checked(config: dict[str, Any]) -> dict[str, Any]:
    """Return the question. Its names may become parts of file names at the site.

    Raises LeakError where one could lead out of the site's folders.
    """
    for key in ("name", "key"):
        if not re.fullmatch(r"[A-Za-z0-9_-]*", str(config.get(key, ""))):
            raise outgoing.LeakError(f"the job's {key} is no plain name; it would be part of a path at this site")
    return config


class Site:
    """What a job's client can access: the site's name, its folders and the job's question.

    The folders come from the site's own environment, never from the job. `job`: its kind, as the policy names it.
    """

    def __init__(self, job: str) -> None:
        flare.init()
        self.job = job
        self.name: str = flare.get_site_name()
        self.among()
        self._received: FLModel | None = None

    began: str | None = None  # whom the site had forgotten when the images were read
    cells: outgoing.Shown = MappingProxyType({})  # counts that validation has shown of the images read here

    def among(self) -> None:
        """Where simulated sites share a machine, know which of them this is."""
        take_place(self.name, os.environ.get(secret.SIMULATED, "").split(","))

    @cached_property
    def settings(self) -> Settings:
        return Settings.read()

    @cached_property
    def config(self) -> dict[str, Any]:
        """The job's question, which comes with the first task. Raises JobEnded where there was none."""
        if self._received is None:
            self._received = flare.receive()
        if self._received is None:
            raise JobEnded("the job ended before its first task")
        return checked(self._received.meta["job"])

    @cached_property
    def params(self) -> Params:
        return Params.model_validate(self.config["params"])

    @property
    def min_cell(self) -> int:
        """Smallest count that leaves the site: the consortium's, or the hospital's own if that is larger."""
        return max(self.params.consortium.min_cell, self.settings.min_cell)

    @property
    def data(self) -> Path:
        return self._own("FEDSYNTH_DATA", self.settings.data)

    @property
    def state(self) -> Path:
        return self._own("FEDSYNTH_STATE", self.settings.state)

    def _own(self, variable: str, folder: Path) -> Path:
        """Return the site's folder below `folder`. Raises SettingsError where `variable` is not set.

        In a hospital the working directory is FLARE's own, so no default would be right.
        """
        if not os.environ.get(variable):
            raise SettingsError(
                f"{self.name}: {variable} is not set in the environment of the site's FLARE client; see"
                " docs/hospital.md"
            )
        return folder / names.key(self.name)

    @cached_property
    def gate(self) -> Gate:
        """What the hospital says to this job, and its record of it."""
        number, submitter = of_job()
        about = {"id": number, "submitter": submitter, "name": str(self.config.get("name", ""))}
        job = "look" if self.config.get("look") else self.job
        return Gate(self.state, place(self.settings, self.state), job, about)

    def admit(self) -> dict[str, Any] | None:
        """Hold the job against the site's policy, before an image is read.

        Returns the answer that was given to the same question before, or None. Raises PolicyError.
        """
        gate = self.gate  # with it the first task is here
        rows = table.read(self.data) if (self.data / table.FILE).is_file() else None
        arrays = {k: np.asarray(a) for k, a in (self._received.params if self._received else {}).items()}
        asked = Question(gate.job, self.config, gate.about["submitter"], rows, self.min_cell, arrays)
        return gate.admit(asked, table.digest(rows) if rows is not None else "")

    def seed(self) -> int:
        """Return the site's own seed: sites must not draw the same noise, and the centre must not know it."""
        return secret.number(self.state, f"training with the seed {self.model_seed}")

    @property
    def model_seed(self) -> int:
        """The seed of the job's model, of its training and its set; the study's where it has none of its own."""
        return self.params.seeded((self.config.get("model") or {}).get("seed")).seed

    def validated_set(self) -> ImageSet:
        """Return the site's images. Raises NotValidated where their digest has not passed validation."""
        self.began = withdrawals.stamp(self.state)
        real = ImageSet.load(self.data)
        if secret.keyed(self.state, table.digest(real.manifest)) != self.config["digests"].get(self.name):
            raise NotValidated(
                f"{self.name}: the data at this site are not those that passed validation; run validate again"
            )
        self.cells = outgoing.shown(real.manifest, self.params.image.labels, self.min_cell)
        return real

    def still(self) -> None:
        """Raise Withdrawn where a patient has withdrawn since the images were read: nothing made of them may leave.

        What the job has written meanwhile is removed, as `fedsynth forget` has done with all that was there.
        """
        if self.began is not None:
            withdrawals.unchanged(self.state, self.began)

    def tasks(self) -> Iterator[FLModel]:
        """Yield the centre's tasks until the job ends; tasks to open an encrypted sum are done here.

        Raises ProcessDied where two processes have died of the first task.
        """
        life = CrashCounter(
            self.state
            / withdrawals.RUNNING
            / hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()[:16]
        )
        while self._received is not None:
            self.gate.unpaused()
            if OPEN in (self._received.meta or {}):
                self.open(self._received)
            else:
                yield self._received
            life.survived()
            self._received = flare.receive() if flare.is_running() else None

    def answer(self, job: str, answer: dict[str, Any]) -> None:
        """Send the answer to a question.

        Only what the table of docs/architecture.md lists may leave; LeakError is raised for anything else.
        """
        self.still()
        known = outgoing.vocabulary(job, self.params, self.name, self.config.get("name", ""))
        if "measures" in answer and self.gate.policy.copies == "words":
            outgoing.in_words(answer["measures"])
        allowed = outgoing.leave(job, answer, known, self.min_cell, self.cells)
        self.gate.keep(allowed)
        self.reply(allowed)

    def reply(self, allowed: dict[str, Any]) -> None:
        """Send an answer that has passed the door, now or before, and record it first."""
        self.gate.sent(numbers=allowed)
        flare.send(FLModel(params=NOTHING, meta={"answer": allowed}))

    def update(
        self,
        difference: Arrays,
        received: Arrays,
        facts: dict[str, Any],
        players: Collection[str],
        encryption: Any = None,
        equal: bool = False,
        coded: tuple[Arrays, Compression] | None = None,
    ) -> None:
        """Send a round's difference, the mean losses of its players and, if any, the spent epsilon and the score.

        With `encryption` (fedsynth/privacy/he.py) the difference times its weight (1 where sites count `equal`) is sent
        encrypted; the server can add but not read it. `coded`: the coded difference and its compression, where one is
        used.
        """
        self.still()
        allowed = outgoing.leave("train", facts, players, self.min_cell, self.cells)
        shapes = {name: a.shape for name, a in received.items()}
        arrays = outgoing.leave_arrays(difference, shapes)
        if coded is not None:
            arrays = outgoing.leave_coded(*coded, shapes)
        metrics = {f"loss/{player}": loss for player, loss in allowed["losses"].items()}
        metrics |= {"steps": float(allowed["steps"]), "weight": allowed["weight"]}
        metrics |= {
            name: allowed[name] for name in ("epsilon", "epsilon_total", "score") if allowed.get(name) is not None
        }
        if encryption:
            hidden = encryption.encrypt(arrays, 1.0 if equal else allowed["weight"], keys.read(keys.SECRET))
            arrays = {ENCRYPTED: np.frombuffer(hidden, np.uint8)}
        self.gate.sent(arrays, metrics, round=received_round(self._received), epsilon=allowed.get("epsilon"))
        flare.send(FLModel(params=arrays, params_type="DIFF", metrics=metrics, meta={"weight": allowed["weight"]}))

    def open(self, received: FLModel) -> None:
        """Decrypt the sum of the sites' differences for the server. Raises LeakError where it is of one site alone."""
        sites = received.meta[OPEN]
        if len(set(sites)) < 2:
            raise outgoing.LeakError("the server asks to open what one site has sent: that is no sum, and stays closed")
        model = self.config["model"]["encryption"]
        total = Block(**model).build().open(received.params[ENCRYPTED].tobytes(), keys.read(keys.SECRET))
        opened = outgoing.leave_arrays({ENCRYPTED: total}, {ENCRYPTED: total.shape})
        self.gate.sent(opened, opened_of=sorted(set(sites)))
        flare.send(FLModel(params=opened, params_type="DIFF"))

    def repeat(self, kept: dict[str, Any]) -> None:
        """Answer a question as it was answered before."""
        for _ in self.tasks():
            self.reply(kept)

    def failed(self, error: Exception) -> None:
        """Answer this task and all later ones with one word for the error.

        FLARE notices a script that just ends late or never, and a quorum that goes on without this site must not wait
        for it.
        """
        allowed = outgoing.leave("failure", {"failure": failures.word(error)})
        self.gate.sent(numbers=allowed)
        while flare.is_running():
            flare.receive()
            flare.send(FLModel(params=NOTHING, meta={"failed": allowed["failure"]}))


def arrays_of(received: Arrays, start: str) -> Arrays:
    """Return the arrays whose names begin with `start`, named without it."""
    return {name.removeprefix(start): array for name, array in received.items() if name.startswith(start)}


def received_round(received: FLModel | None) -> int | None:
    return None if received is None else received.current_round


def main(work: Callable[[Site], None], job: str) -> None:
    """Run a client, once the site's policy has let the job in. `job`: its kind, as the policy names it.

    An error is one line in the site's log, with its reason; the centre gets one word of a closed list.
    """
    printable()
    site = Site(job)
    try:
        workspaces.prune(site.settings.keep_runs)
        if (kept := site.admit()) is None:
            work(site)
        else:
            site.repeat(kept)
    except JobEnded as end:
        print(f"site {site.name}: {end}", flush=True)
    except Exception as error:
        traceback.print_exc()
        text = " ".join(str(error).split())
        print(f"FEDSYNTH FAILED site {site.name}: {type(error).__name__}: {text}", flush=True)
        sys.stdout.flush()
        site.failed(error)
