"""Controller of a training: FLARE's FedAvg controller with a quorum."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.workflows.fedavg import FedAvg

from nvflare_jobs.keys import ENCRYPTED, OPEN
from nvflare_jobs.server import round_log
from nvflare_jobs.server.run import SHOWN, Progress, present, question, refuse, run_dir


class Rounds(Progress, FedAvg):
    """FLARE's FedAvg controller with a quorum: after `quorum` of `sites` the others have at most `grace_s` seconds.

    The signature has both *args and **kwargs because only then does FLARE's job export look for the base class's
    arguments. `num_rounds` counts the rounds of the whole training; the job continues after those that the persistor
    restored.
    """

    def __init__(self, sites: list[str], quorum: int, grace_s: int, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.sites, self.quorum, self.grace_s = sites, quorum, grace_s

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
        arrays = {name: data.params[name] for name in self.aggregator.built.arrays_sent(list(data.params), last)}
        out.params, have, about = self.aggregator.coded(arrays, data.current_round, targets)
        # a site that has the previous message also has the question
        out.meta = (data.meta or {}) | about | ({} if "since" in about.get("coding", {}) else {"job": job})
        self.aggregator.begin(data.current_round, have, targets, job, last)
        self.broadcast_model(out, task_name, targets, min_responses=min(self.quorum, len(targets)), timeout=timeout,
                             wait_time_after_min_received=self.grace_s, blocking=False, callback=callback)  # fmt: skip

    def _get_aggregated_result(self) -> FLModel:
        if self.aggregator.encryption:
            self._open()
        return super()._get_aggregated_result()

    def _open(self) -> None:
        """Add the encrypted updates and have a site decrypt the sum; the sites are asked in turn until one does.

        Raises RuntimeError where none does.
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
            if opened and ENCRYPTED in opened[0].params:
                return self.aggregator.opened(sites, np.asarray(opened[0].params[ENCRYPTED], np.float64))
        refuse(self.fl_ctx, f"no site has opened the sum of round {self.current_round + 1}; their logs have the reason")

    def progress(self) -> dict[str, Any]:
        return {"rounds": self.aggregator.records[-SHOWN:]}
