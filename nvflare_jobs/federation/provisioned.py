"""A provisioned federation (mutual TLS, startup kits) through FLARE's API: mode `production`, and the base of `poc`."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from nvflare.fuel.flare_api.api_spec import (
    InternalError,
    InvalidJobDefinition,
    InvalidTarget,
    JobNotDone,
    JobNotFound,
    JobNotRunning,
    NoReply,
    SubmitTokenConflict,
    SubmitTokenJobDeleted,
)

from fedsynth.settings import Settings
from nvflare_jobs.federation import submitted
from nvflare_jobs.federation.interface import WAITING, Event, Federation, FederationError, JobLost
from nvflare_jobs.federation.session import LOOK_S, Calls, line
from nvflare_jobs.server.round_log import SILENT

ABORT_S = 8.0  # seconds in which an abort should take effect
PROGRESS = "fedsynth"  # the group of nvflare_jobs/server/run.py in FLARE's statistics
COMPLETED = "FINISHED:COMPLETED"

# FLARE's statuses of failed jobs and the messages shown for them.
ENDINGS = {
    "FINISHED:ABORTED": "the job was aborted",
    "FINISHED:EXECUTION_EXCEPTION": "the job failed while it ran",
    "FINISHED:ABNORMAL": "the job was refused or broke off",
    "FINISHED:CAN_NOT_SCHEDULE": "the job could not be scheduled",
    "FINISHED:FAILED_TO_RUN": "the job could not be started",
    "FINISHED:ABANDONED": "the job was abandoned by the server",
}


# FLARE's statuses of a job in which a site's process died
BROKEN = ("FINISHED:EXECUTION_EXCEPTION", "FINISHED:ABNORMAL")


class Provisioned(Calls, Federation):
    """The jobs of one centre in a provisioned federation.

    FLARE's sessions do not recover, so a call may be repeated in a new session.
    """

    def __init__(self, settings: Settings, work: Path, kit: Path):
        super().__init__(settings, work, kit)
        self._jobs: dict[str, tuple[list[str], int]] = {}

    def sites(self) -> list[str]:
        return sorted(client.name for client in self.call("get_connected_client_list"))

    def submit(self, job: Path, token: str, sites: list[str]) -> str:
        meta = json.loads((job / "meta.json").read_text(encoding="utf-8"))
        known = [j for j in self.call("list_jobs", name_prefix=meta["name"]) if j["job_name"] == meta["name"]]
        open_ones = [j["job_id"] for j in known if not j["status"].startswith("FINISHED")]
        found = self._pending(token) or next((job_id for job_id in open_ones if not self._over(job_id)), None)
        number = max(len(known), submitted.last(self.settings.root, meta["name"]))
        while not found:
            number += 1
            try:
                found = self.call("submit_job", str(job), submit_token=f"{token}-{number}")
            # an admin has deleted jobs, so the count is too low and this token was used
            except (SubmitTokenConflict, SubmitTokenJobDeleted):
                continue
            except (InvalidJobDefinition, InternalError) as error:
                raise FederationError(f"{self.kit.address} does not take the job: {line(error)}") from error
            else:
                self._remember(found, meta["name"], number)
        self.work.mkdir(parents=True, exist_ok=True)
        self._pending_file.write_text(json.dumps({"token": token, "job_id": found}), encoding="utf-8")
        self._jobs[found] = sites, int(meta["min_clients"])
        return str(found)

    def _remember(self, job_id: str, name: str, number: int) -> None:
        """Keep which jobs are this study's; its server outlives the job."""
        submitted.remember(self.settings.root, job_id, name, number)

    @property
    def _pending_file(self) -> Path:
        return self.work / "pending.json"

    def _pending(self, token: str) -> str | None:
        """Return the job that an earlier process submitted and did not collect, where it runs or ended well."""
        if not self._pending_file.is_file():
            return None
        pending = json.loads(self._pending_file.read_text(encoding="utf-8"))
        if pending["token"] != token:
            return None
        job_id = str(pending["job_id"])
        try:
            ended_well = self.call("get_job_meta", job_id)["status"] == COMPLETED
        except JobNotFound:
            return None
        return job_id if ended_well or not self._over(job_id) else None

    def _over(self, job_id: str) -> bool:
        """Return whether the job has ended, or its server has been restarted.

        After a restart FLARE reports the job as "running" for ever.
        """
        meta = self.call("get_job_meta", job_id)
        return str(meta["status"]).startswith("FINISHED") or self._lost(meta)

    def _lost(self, meta: dict[str, Any]) -> bool:
        """Return whether the server was started after the job. Both times are from the server's clock."""
        started = str(meta.get("start_time") or "")
        if meta["status"] != "RUNNING" or not started:
            return False
        server = self.call("get_system_info").server_info.start_time
        return float(server) > datetime.fromisoformat(started).timestamp()

    def follow(self, job_id: str) -> Iterator[Event]:
        shown, seen, last, status = "", -1, time.monotonic(), ""
        began = time.monotonic()
        ran = False
        while not status.startswith("FINISHED"):
            try:
                meta = self.call("get_job_meta", job_id, patience_s=self.settings.stall_s)
            except JobNotFound as error:
                raise FederationError(f"job {job_id} is not at the server any more; did an admin delete it?") from error
            status = str(meta["status"])
            if self._lost(meta):
                raise JobLost(f"the server was restarted while job {job_id} ran")
            text = status if status in ("RUNNING", COMPLETED) or status in ENDINGS else self._waiting(job_id, began)
            if text != shown:
                yield Event("status", text)
                shown, last = text, time.monotonic()
            progress = self._progress(job_id) if status == "RUNNING" else {}
            ran = ran or bool(progress)
            for record in progress.get("rounds", []):
                if record["round"] > seen:
                    seen, last = record["round"], time.monotonic()
                    yield Event.of(record)
                    self._rejoin(job_id, record.get("left_out", {}))
            if time.monotonic() - last > self.settings.stall_s:
                self.abort(job_id)
                raise FederationError(
                    f"no sign of life from job {job_id} for {self.settings.stall_s:.0f} s, so it was aborted; "
                    "set FEDSYNTH_STALL_S for longer rounds"
                )
            if not status.startswith("FINISHED"):
                time.sleep(LOOK_S)
        if status == COMPLETED:
            return
        said = f"{ENDINGS.get(status, status)} ({job_id})"
        if ran and status in BROKEN:
            raise JobLost(f"{said}; did a site's process die?")
        raise FederationError(said)

    def _rejoin(self, job_id: str, left_out: dict[str, str]) -> None:
        """Abort the job where a site has come back, so that a new job from this round on includes it.

        FLARE does not give a running job to a site that connects later. Raises JobLost, after the abort, where a site
        that was left out is connected and does not work on the job.
        """
        gone = [site for site, why in left_out.items() if why in SILENT]
        back = [site for site in gone if site in self.sites() and self._idle(job_id, site)] if gone else []
        if back:
            self.abort(job_id, patience_s=60)  # wait until it is over: the next submission must not find it
            raise JobLost(f"{', '.join(back)} had gone and is back")

    def _idle(self, job_id: str, site: str) -> bool:
        """Return whether the site reports that it does not run the job; False where it does not answer."""
        try:
            rows = self.call("get_client_job_status", [site]) or []
        except (InternalError, NoReply, InvalidTarget):
            return False
        said = [row for row in rows if row.get("status") not in ("no_reply", "error")]
        return bool(said) and all(row.get("job_id") != job_id for row in said)

    def _waiting(self, job_id: str, began: float) -> str:
        """Return the status of a job that has not started: which sites it waits for, if too few are connected.

        Aborts the job and raises FederationError where they are not connected after `connect_s` seconds.
        """
        sites, enough = self._jobs[job_id]
        missing = sorted(set(sites) - set(self.sites()))
        if len(sites) - len(missing) >= enough:
            return "SUBMITTED"
        if time.monotonic() - began > self.settings.connect_s:
            self.abort(job_id)
            raise FederationError(
                f"not connected: {', '.join(missing)}; {enough} sites are needed and were waited for"
                f" {self.settings.connect_s:.0f} s. Start their FLARE clients, set consortium.quorum, or"
                " FEDSYNTH_CONNECT_S to wait longer"
            )
        return f"{WAITING} {', '.join(missing)}"

    def _progress(self, job_id: str) -> dict[str, Any]:
        """Return the progress that nvflare_jobs/server/run.py reports; {} while the job starts or ends."""
        try:
            found: dict[str, Any] = self.call("show_stats", job_id, "server")["server"][PROGRESS]
        except (JobNotRunning, JobNotFound, NoReply, InternalError, KeyError, TypeError):
            return {}
        return found

    def collect(self, job_id: str, dest: Path) -> Path:
        part = dest.with_name(f"{dest.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            self.call("download_job_result", job_id, str(part))
            workspace = part / job_id / "workspace"
            if not workspace.is_dir():
                raise FederationError(f"job {job_id} left no result at the server")
            shutil.rmtree(dest, ignore_errors=True)
            workspace.rename(dest)
        except (JobNotDone, JobNotFound) as error:  # FLARE reports a job whose server was restarted as running for ever
            raise FederationError(f"job {job_id} has no result at the server: {line(error)}") from error
        except (OSError, RuntimeError, InternalError, NoReply) as error:
            if isinstance(error, FederationError):
                raise
            raise FederationError(
                f"the result of job {job_id} could not be brought to {part.parent}: {line(error)}. It is kept at the"
                " server: mend that (is the disk full?) and run again; the job is not run again"
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        self._pending_file.unlink(missing_ok=True)
        return dest

    def abort(self, job_id: str, patience_s: float = ABORT_S) -> None:
        self.drop()  # the session may be in the middle of a call
        deadline = time.monotonic() + patience_s
        while True:
            # it is not running: it is starting or ending, or its server lost it
            with contextlib.suppress(InternalError, JobNotFound):
                self.call("abort_job", job_id, patience_s=ABORT_S)
            if self._over(job_id) or time.monotonic() > deadline:
                # an abort during deployment may be overtaken by the job's start, hence the loop
                break
            time.sleep(LOOK_S)
        self._pending_file.unlink(missing_ok=True)
