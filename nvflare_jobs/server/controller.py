"""Controller of a training: FLARE's FedAvg controller with a quorum."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from nvflare.apis.controller_spec import ClientTask
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.workflows.fedavg import FedAvg

from nvflare_jobs.keys import ENCRYPTED, OPEN
from nvflare_jobs.server import round_log
from nvflare_jobs.server.run import SHOWN, NoTensors, Progress, SaysWhom, present, question, refuse, run_dir
from nvflare_jobs.server.updates import Unusable


class Rounds(Progress, SaysWhom, NoTensors, FedAvg):
    """FLARE's FedAvg controller with a quorum: after `quorum` of `sites` the others have at most `grace_s` seconds.

    The signature has both *args and **kwargs because only then does FLARE's job export look for the base class's
    arguments. `num_rounds` counts the rounds of the whole training; the job continues after those that the persistor
    restored.
    """

    def __init__(self, sites: list[str], quorum: int, grace_s: int, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.sites, self.quorum, self.grace_s = sites, quorum, grace_s
        self.targets: list[str] = []  # of this round
        self._in_round = False  # whether answers are updates; otherwise they are opened sums

    def run(self) -> None:
        self.aggregator.wire.watch(self.engine)
        super().run()
        if self.persistor.done == self.start_round + self.num_rounds:
            round_log.complete(run_dir(self.fl_ctx))
            self.persistor.saved.forget()

    def load_model(self) -> FLModel:
        model = super().load_model()
        self.start_round = self.persistor.done
        self.num_rounds -= self.persistor.done
        if self.persistor.done:
            self.aggregator.resume(self.persistor.done)
        return model

    def sample_clients(self, num_clients: int | None = None) -> list[str]:
        return self.aggregator.built.sites_of_round(present(self, self.sites, self.quorum), self.current_round)

    def send_model(self, task_name: str = "train", data: FLModel | None = None, targets: list[str] | None = None,
                   min_responses: int | None = None, timeout: int = 0,
                   callback: Callable[[FLModel], None] | None = None) -> None:  # fmt: skip
        last, job = data.current_round == self.start_round + self.num_rounds - 1, question(self.fl_ctx)
        out = copy.copy(data)
        arrays, frozen = self.aggregator.parted(data.params)
        arrays = {name: arrays[name] for name in self.aggregator.built.arrays_sent(list(arrays), last)}
        sent, have, about = self.aggregator.coded(arrays, data.current_round, targets)
        out.params = sent | (frozen if self.aggregator.lack_frozen(targets or []) else {})
        # a site that has the previous message also has the question
        out.meta = (data.meta or {}) | about | ({} if "since" in about.get("coding", {}) else {"job": job})
        self.aggregator.begin(data.current_round, have, targets, job, last)
        self.targets, self._in_round = targets or [], True
        self.broadcast_model(out, task_name, targets, min_responses=min(self.quorum, len(targets)), timeout=timeout,
                             wait_time_after_min_received=self.grace_s, blocking=False, callback=callback)  # fmt: skip

    def _process_result(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        """Give an answer to the aggregator.

        FLARE drops an answer that it cannot convert, so that the site would seem not to have answered, and ends the
        task of all sites where it fails otherwise.
        """
        site, whole = client_task.client.name, True
        try:
            whole = client_task.result.get_return_code() == ReturnCode.OK
            super()._process_result(client_task, fl_ctx)
        except Exception as error:
            self.error(f"site {site}: its answer cannot be read: {type(error).__name__}")
        if whole and self._in_round and site not in self.aggregator.heard:
            self.aggregator.unreadable(site)

    def _aggregate_one_result(self, result: FLModel) -> bool:
        """Take an update as it is. FLARE looks into it, and skips what it does not like."""
        self.aggregator.accept_model(result)
        self._received_count += 1
        return True

    def _get_aggregated_result(self) -> FLModel:
        self._in_round = False
        if self.aggregator.encryption:
            self._open()
        return super()._get_aggregated_result()

    def _open(self) -> None:
        """Add the encrypted updates and have a site decrypt the sum; the sites are asked in turn until one does.

        Raises RuntimeError where none does. What a site opens is taken on trust, as it alone has the key.
        """
        sites, total = self.aggregator.total()
        for site in sites:
            opened: list[FLModel] = []
            model = FLModel(params={ENCRYPTED: np.frombuffer(total, np.uint8)}, current_round=self.current_round)
            model.meta = {"job": question(self.fl_ctx), OPEN: sites}
            self.broadcast_model(
                model,
                self.task_name,
                [site],
                min_responses=1,
                timeout=max(self.grace_s, 1),
                blocking=False,
                callback=opened.append,
            )
            while self.get_num_standing_tasks() and not self.abort_signal.triggered:
                time.sleep(self._task_check_period)
            for answer in opened[:1]:
                try:
                    found = answer.params.get(ENCRYPTED) if isinstance(answer.params, dict) else None
                    return self.aggregator.opened(sites, found)
                except Unusable as error:
                    self.aggregator.misled(site, str(error))
        refuse(self.fl_ctx, f"no site has opened the sum of round {self.current_round + 1}; their logs have the reason")

    def awaited(self) -> list[str]:
        heard = self.aggregator.heard if self._in_round else set()
        return [site for site in self.targets if site not in heard] if len(heard) >= self.quorum else []

    def progress(self) -> dict[str, Any]:
        return {"rounds": self.aggregator.records[-SHOWN:]}
