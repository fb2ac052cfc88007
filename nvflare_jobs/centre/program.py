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
from fedsynth.params import Centre, Params
from fedsynth.settings import Settings, quiet
from fedsynth.stages import inputs
from nvflare_jobs.federation import interface, runner


class StageError(UserError):
    """A stage cannot do its work; the message says why and what to do."""


def public(params: Params) -> dict[str, Any]:
    """Return the part of params.yaml that goes into every job.

    It has neither the source's arguments (where images come from), nor keys of the centre's own, nor models; a job adds
    the model that it is about.
    """
    raw = params.model_dump(mode="json", exclude=set(Centre.model_fields))
    return raw | {"source": {"class_path": params.source.class_path, "args": {}}, "models": {}}


def expected(params: Params, settings: Settings) -> list[str]:
    """Return the sites of the consortium: those of params.yaml, else the source's.

    In a real federation without sites in params.yaml, they are those that are connected; raises FederationError where
    none is.
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
    """Run a stage as a program; a signal ends the job first.

    An error is printed as one message. Exit codes: 1 for a UserError, 2 for a FederationError, 129 where the flow was
    killed, 130 for Ctrl-C.
    """
    processes.in_utf8()
    quiet()
    signal.signal(signal.SIGTERM, _terminate)
    processes.mind_owner()
    try:
        settings = Settings.read()
        os.chdir(settings.root)
        stage(inputs.params_of_run(settings.root, settings), settings)
    except interface.FederationError as error:  # a retry may help; the flow recognises it by this prefix
        print(f"federation error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    except processes.Orphaned:  # a job in a real federation keeps running, and the next run finds it
        print("the flow of this stage was killed", file=sys.stderr, flush=True)
        sys.exit(129)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        sys.exit(130)


def _terminate(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not interrupt the abort of the job
    sys.exit(128 + number)


def validated(root: Path) -> dict[str, Any]:
    """Return the content of reports/validation.json. Raises UserError where validation has not run."""
    found: dict[str, Any] = outputs.read(root / "reports" / "validation.json", "validate")
    return found


def validated_for_training(params: Params, root: Path) -> dict[str, Any]:
    """Return the same, with those sites alone under "used" that train models."""
    found = validated(root)
    return found | {"used": params.split.training(found["used"])}
