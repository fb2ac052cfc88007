"""Runs one job on the federation that the environment names, and resubmits it where it was lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fedsynth.settings import Settings
from nvflare_jobs.federation.interface import LOST, WHOLE, Event, Federation, FederationError, JobLost, explained
from nvflare_jobs.server import round_log

TRIES = 4  # submissions of a job that is lost repeatedly without completing another round


def connect(settings: Settings, work: Path, sites: list[str] | None = None) -> Federation:
    """Return the federation that the environment names. `work`: the caller's own folder for logs and workspaces.

    `sites`: those for which a `poc` federation is provisioned.
    """
    if settings.federation == "simulator":
        from nvflare_jobs.federation.simulator import Simulator

        return Simulator(settings, work)
    if settings.federation == "poc":
        from nvflare_jobs.federation.poc import poc

        return poc(settings, work, sites or [])
    from nvflare_jobs.federation.provisioned import Provisioned

    assert settings.kit is not None
    return Provisioned(settings, work, settings.kit)


def run(
    federation: Federation, job: Path, token: str, sites: list[str], dest: Path, on_event: Callable[[Event], None]
) -> Path:
    """Submit, follow and collect one job. Returns `dest`, the folder of the result.

    The result is collected also where the job failed, so that nothing computed is lost. A lost job is submitted again
    and continues from the state that server and sites keep. Ctrl-C and SIGTERM abort the job; if this process ends in
    any other way, the job keeps running and is found again by its token. Raises FederationError where the job failed.
    """
    shutil.rmtree(dest, ignore_errors=True)
    shown = _Shown(on_event)
    left, before = TRIES, 0
    while True:
        left, before = (left - 1 if len(shown.rounds) == before else TRIES - 1), len(shown.rounds)
        job_id = federation.submit(job, token, sites)
        shown(Event("job", job_id))
        try:
            for event in federation.follow(job_id):
                shown(event)
            break
        except (KeyboardInterrupt, SystemExit):
            federation.abort(job_id)
            raise
        except FederationError as error:
            if _whole(federation, job_id, dest, error, shown, last=not left):
                break
    if not dest.is_dir():
        federation.collect(job_id, dest)
    shown.written(dest)
    return dest


class _Shown:
    """Passes events on, each round only once."""

    def __init__(self, on_event: Callable[[Event], None]):
        self.on_event = on_event
        self.rounds: set[int] = set()

    def __call__(self, event: Event) -> None:
        if event.kind == "round":
            if event.round in self.rounds:
                return
            self.rounds.add(event.round)
        self.on_event(event)

    def written(self, folder: Path) -> None:
        """Pass on the rounds that ended between two polls."""
        for record in round_log.read(folder / round_log.ROUNDS):
            self(Event.of(record))


def _whole(federation: Federation, job_id: str, dest: Path, error: FederationError, shown: _Shown, last: bool) -> bool:
    """Return whether a failed job has left a complete result; False means that another try can help.

    Raises FederationError with the most specific reason where neither is the case, or this was the `last` try.
    """
    with suppress(FederationError):  # there may be no result yet
        federation.collect(job_id, dest)
    shown.written(dest)
    if round_log.is_complete(dest):
        shown(Event("status", f"{WHOLE}, though {error}"))
        return True
    refusal, words = round_log.refused(dest), federation.words(job_id)
    said = refusal or explained(str(error), dest)
    said += f" ({words})" if words and words not in said else ""
    if refusal or last or not isinstance(error, JobLost):
        raise FederationError(said) from error
    shown(Event("status", f"{LOST}: {said}; it is submitted again and goes on from what is kept"))
    shutil.rmtree(dest, ignore_errors=True)
    return False
