"""Controller that asks every site one question and keeps the answers."""

from __future__ import annotations

import json
import time
from typing import Any

from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.workflows.model_controller import ModelController
from safetensors.numpy import load_file

from fedsynth.hospital.failures import FAILURES
from nvflare_jobs.server import round_log
from nvflare_jobs.server.run import NoTensors, Progress, SaysWhom, config_dir, present, question, refuse, run_dir

ANSWERS = "answers.json"
LARGEST, DEEPEST = 64 * 2**20, 16  # characters of an answer, and levels of tables in tables


class Ask(Progress, SaysWhom, NoTensors, ModelController):
    """Ask every site one question and keep the answers: one task, with the arrays of the file `payload` as its data.

    Once `quorum` sites have answered, the others have at most `grace_s` seconds.
    """

    def __init__(self, sites: list[str], quorum: int, grace_s: int, payload: str = "payload.safetensors"):
        super().__init__(persistor_id="", task_check_period=0.1)
        self.sites, self.quorum, self.grace_s = sites, quorum, grace_s
        self.payload = payload
        self.answers: dict[str, dict[str, Any]] = {}
        self.targets: list[str] = []

    def run(self) -> None:
        targets = self.targets = present(self, self.sites, self.quorum)
        model = FLModel(params=load_file(config_dir(self.fl_ctx) / self.payload), current_round=0, total_rounds=1)
        model.meta = {"job": question(self.fl_ctx)}
        self.broadcast_model(
            model,
            targets=targets,
            min_responses=min(self.quorum, len(targets)),
            wait_time_after_min_received=self.grace_s,
            blocking=False,
            callback=self._take,
        )
        while self.get_num_standing_tasks() and not self.abort_signal.triggered:
            time.sleep(self._task_check_period)
        if self.abort_signal.triggered:
            return
        good = [site for site, answer in self.answers.items() if "answer" in answer]
        for site in self.sites:
            silent = "no answer within the time of grace" if site in targets else "not connected"
            self.answers.setdefault(site, {"failed": silent})
        if len(good) < self.quorum:
            reasons = [f"site {site}: {a['failed']}" for site, a in sorted(self.answers.items()) if "failed" in a]
            refuse(
                self.fl_ctx,
                f"{len(good)} of {len(self.sites)} sites answered, {self.quorum} are needed: {'; '.join(reasons)}",
            )
        (run_dir(self.fl_ctx) / ANSWERS).write_text(json.dumps(dict(sorted(self.answers.items()))), encoding="utf-8")
        round_log.complete(run_dir(self.fl_ctx))

    def _take(self, result: FLModel) -> None:
        site, failure = result.meta["client_name"], result.meta.get("failed")
        if failure is not None:
            self.answers[site] = {"failed": FAILURES.get(str(failure), FAILURES["error"])}
            return
        try:
            self.answers[site] = {"answer": plain(result.meta.get("answer"))}
        except (TypeError, ValueError, RecursionError):
            self.answers[site] = {"failed": "it has sent what is no answer; does it run the same version?"}

    def awaited(self) -> list[str]:
        silent = [site for site in self.targets if site not in self.answers]
        return silent if len(self.answers) >= self.quorum else []

    def progress(self) -> dict[str, Any]:
        return {"answered": sorted(self.answers)}


def plain(answer: Any) -> Any:
    """An answer as JSON has it. Raises ValueError, TypeError or RecursionError for what JSON does not hold, numbers
    that are not finite, and more of it than an answer can have: read again at the centre, that would end the stage.
    """
    text = json.dumps(answer, allow_nan=False)
    if len(text) > LARGEST:
        raise ValueError("the answer is too large")
    found, level = json.loads(text), [answer]
    for _ in range(DEEPEST):
        level = [of for table in level for of in (table.values() if isinstance(table, dict) else table)
                 if isinstance(of, dict | list | tuple)]  # fmt: skip
        if not level:
            return found
    raise ValueError("the answer is too deep")
