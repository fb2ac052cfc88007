"""Runs a stage that is a job as a program: settings, sites, errors, signals."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedsynth import processes
from fedsynth.data import outputs
from fedsynth.errors import UserError
from fedsynth.params import Params
from fedsynth.settings import Settings, quiet
from fedsynth.stages import inputs
from nvflare_jobs.federation import interface, runner


class StageError(UserError):
    """A stage cannot do its work; the message says why and what to do."""


def public(params: Params) -> dict[str, Any]:
    """What of params.yaml goes into a job: nothing of where images come from, nothing of the models that the job is not
    about.
    """
    raw = params.model_dump(mode="json")
    return raw | {"source": {"class_path": params.source.class_path, "args": {}}, "models": {}}


def expected(params: Params, settings: Settings) -> list[str]:
    """The sites of the consortium: those that params.yaml names, else the source's; of a real federation those that are
    connected.
    """
    if params.consortium.sites:
        return params.consortium.sites
    if settings.simulation:
        return list(params.source.build(image=params.image.sourced, seed=params.seed).sites())
    with runner.connect(settings, settings.root / ".work" / "jobs" / "sites") as connected:
        found = connected.sites()
    if not found:
        raise interface.FederationError("no site is connected to the federation; start the sites' FLARE clients")
    return found


def main(stage: Callable[[Params, Settings], None]) -> None:
    """Run a stage as a program: errors are one clear text and exit code 1, a signal ends the job first."""
    quiet()
    signal.signal(signal.SIGTERM, _terminate)
    processes.mind_owner()
    try:
        settings = Settings.read()
        os.chdir(settings.root)
        stage(inputs.params_of_run(settings.root, settings), settings)
    except interface.FederationError as error:  # another try may help, and the flow knows it by this word
        print(f"federation error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    except processes.Orphaned:  # a job in a real federation runs on, and the next run finds it
        print("the flow of this stage was killed", file=sys.stderr, flush=True)
        sys.exit(129)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        sys.exit(130)


def _terminate(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not stop the ending of the job
    sys.exit(128 + number)


def validated(root: Path) -> dict[str, Any]:
    """reports/validation.json. Raises UserError where validation has not run."""
    found: dict[str, Any] = outputs.read(root / "reports" / "validation.json", "validate")
    return found
