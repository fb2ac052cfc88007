"""Helpers of server components: the job's question, its folders and progress, and ending it with a reason."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from nvflare.apis.fl_context import FLContext
from nvflare.widgets.info_collector import InfoCollector

from nvflare_jobs.server import round_log

PROGRESS = "fedsynth"  # name of our entry in FLARE's job statistics


SHOWN = 50  # rounds in one progress report; earlier ones have been reported or come with the result


class Progress:
    """Adds rounds and answers so far to FLARE's job statistics, which a centre with the right `view` may see live."""

    def progress(self) -> dict[str, Any]:
        raise NotImplementedError

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        super().handle_event(event_type, fl_ctx)  # type: ignore[misc]
        if event_type == InfoCollector.EVENT_TYPE_GET_STATS:
            collector = fl_ctx.get_prop(InfoCollector.CTX_KEY_STATS_COLLECTOR, None)
            if collector is not None:
                collector.set_info(PROGRESS, self.progress())


class NoTensors:
    """A controller of jobs that send NumPy arrays alone: the server ends them without importing torch.

    After `stop_controller` FLARE's `WFCommServer.finalize_run` (nvflare 2.9, apis/impl/wf_comm_server.py) imports
    `nvflare.app_opt.pt.tensor_downloader`, and with it torch, to remove tensors that are still being downloaded. It
    does without where that module cannot be imported.
    """

    def stop_controller(self, fl_ctx: FLContext) -> None:
        super().stop_controller(fl_ctx)  # type: ignore[misc]
        sys.modules.setdefault("nvflare.app_opt.pt.tensor_downloader", None)  # type: ignore[arg-type]


class SaysWhom:
    """A controller that logs for whom it waits once the quorum has answered.

    The log of a job in its time of grace would stand still otherwise, and a centre takes that for a stall.
    """

    SAY_S = 10.0
    _said = 0.0

    def awaited(self) -> list[str]:
        """Return the sites that have not answered, none as long as fewer than the quorum have."""
        raise NotImplementedError

    def get_num_standing_tasks(self) -> int:
        left: int = super().get_num_standing_tasks()  # type: ignore[misc]
        if left and time.monotonic() - self._said > self.SAY_S and (sites := self.awaited()):
            self._said = time.monotonic()
            self.info(f"the quorum has answered; waiting for {', '.join(sites)}")  # type: ignore[attr-defined]
        return left


def present(controller: Any, sites: list[str], quorum: int) -> list[str]:
    """Return those of `sites` that are connected now.

    Raises RuntimeError naming the missing sites where fewer than `quorum` are connected.
    """
    connected = {client.name for client in controller.engine.get_clients()}
    found = [site for site in sites if site in connected]
    if len(found) < quorum:
        missing = ", ".join(site for site in sites if site not in connected)
        refuse(
            controller.fl_ctx,
            f"{len(found)} of {len(sites)} sites are connected, {quorum} are needed; not there: {missing}",
        )
    return found


def refuse(fl_ctx: FLContext, why: str) -> None:
    """End the job for a reason that the centre finds in its result. Raises RuntimeError."""
    round_log.refuse(run_dir(fl_ctx), why)
    raise RuntimeError(why)


def question(fl_ctx: FLContext) -> dict[str, Any]:
    """Return the job's question, its configuration that goes to the sites with the task."""
    found: dict[str, Any] = json.loads((config_dir(fl_ctx) / "job.json").read_text(encoding="utf-8"))
    return found


def run_dir(fl_ctx: FLContext) -> Path:
    return Path(fl_ctx.get_engine().get_workspace().get_run_dir(fl_ctx.get_job_id()))


def config_dir(fl_ctx: FLContext) -> Path:
    return Path(fl_ctx.get_engine().get_workspace().get_app_config_dir(fl_ctx.get_job_id()))
