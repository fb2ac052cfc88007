"""The server's half of that job: draws images, calls all sites at once, and updates the generator.

Unlike the server of all other jobs it needs torch and MONAI.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nvflare.apis.fl_component import FLComponent
from nvflare.collab import CollabCallError, collab
from safetensors.numpy import load_file, save_file

from fedsynth.hospital.failures import FAILURES
from nvflare_jobs.server import round_log
from nvflare_jobs.server.run import SHOWN, Progress, config_dir, question, refuse, run_dir
from nvflare_jobs.server.saved import GLOBAL

if TYPE_CHECKING:
    from fedsynth.params import Training
    from fedsynth.training.central_generator import Generating

Answers = dict[str, dict[str, Any]]


class Centre(Progress, FLComponent):
    """Trains the generator with all of `sites`.

    A site that fails, or takes longer than `call_s` seconds for a step (`begin_s` for its start), ends the job, because
    what its discriminator has learnt is nowhere else. A job that is submitted again starts from the beginning.
    """

    def __init__(self, sites: list[str], call_s: float, begin_s: float, initial: str = "initial.safetensors"):
        super().__init__()
        self.sites, self.call_s, self.begin_s, self.initial = sites, call_s, begin_s, initial
        self.records: list[dict[str, Any]] = []

    @collab.main
    def run(self) -> None:
        self.fl_ctx = collab.fl_ctx
        asked = question(self.fl_ctx)
        proxies = {proxy.name: proxy for proxy in collab.clients}
        if missing := [site for site in self.sites if site not in proxies]:
            refuse(self.fl_ctx, f"all {len(self.sites)} sites are needed; not there: {', '.join(missing)}")
        with ThreadPoolExecutor(len(self.sites)) as pool:
            self._pool, self._proxies = pool, proxies
            self._train(asked)
        round_log.complete(run_dir(self.fl_ctx))

    def _train(self, asked: dict[str, Any]) -> None:
        own = asked.pop("centre")  # what sites need not know about each other
        self._ask(lambda site, proxy: proxy(timeout=self.begin_s).begin(asked))
        half, training = generating(asked, own, load_file(config_dir(self.fl_ctx) / self.initial))
        for number in range(training.rounds):
            began = time.monotonic()
            for _ in range(asked["steps"]):
                self._step(half)
            told = self._ask(lambda site, proxy: proxy(timeout=self.call_s).end_round())
            save(run_dir(self.fl_ctx) / GLOBAL, half.arrays(), number)
            self._write(number, told, own["images"], time.monotonic() - began)

    def _step(self, half: Generating) -> None:
        drawn = half.draw()
        answers = self._ask(lambda site, proxy: proxy(timeout=self.call_s).step(*drawn[site]))
        half.learn(self._checked(answers, {site: images.shape for site, (images, _) in drawn.items()}))

    def _checked(self, answers: Answers, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        found = {site: answer.get("feedback") for site, answer in answers.items()}
        for site, feedback in found.items():
            if (
                not isinstance(feedback, np.ndarray)
                or feedback.shape != shapes[site]
                or not np.isfinite(feedback).all()
            ):
                refuse(
                    self.fl_ctx,
                    f"site {site}: sent no gradient of the shape of its images; does it run the same version?",
                )
        return found  # type: ignore[return-value]

    def _ask(self, call: Callable[[str, Any], dict[str, Any]]) -> Answers:
        """Call all sites at the same time and return their answers. Ends the job (RuntimeError) where one has none."""
        waiting = {site: self._pool.submit(call, site, self._proxies[site]) for site in self.sites}
        answers, failed = {}, []
        for site, future in waiting.items():
            try:
                answers[site] = future.result()
            except CollabCallError as error:
                failed.append(f"site {site}: no answer: {error}")
                continue
            if word := answers[site].get("failure"):
                failed.append(f"site {site}: failed: {FAILURES.get(word, FAILURES['error'])}")
        if failed:
            refuse(self.fl_ctx, "; ".join(failed))
        return answers

    def _write(self, number: int, told: Answers, images: dict[str, float], seconds: float) -> None:
        sites = {
            site: {f"loss/{player}": loss for player, loss in answer["losses"].items()}
            | {"steps": float(answer["steps"]), "weight": float(images[site])}
            for site, answer in sorted(told.items())
        }
        self.records.append({"round": number, "sites": sites, "seconds": round(seconds, 2)})
        round_log.append(run_dir(self.fl_ctx) / round_log.ROUNDS, self.records[-1])

    def progress(self) -> dict[str, Any]:
        return {"rounds": self.records[-SHOWN:]}


def generating(
    asked: dict[str, Any], own: dict[str, Any], initial: dict[str, np.ndarray]
) -> tuple[Generating, Training]:
    """Build the centre's half of the training from the job's question. Returns it with the training settings.

    `own`: weights and class shares of the sites. `initial`: the generator's parameters at the start.
    """
    import torch

    from fedsynth.params import Model, Params
    from fedsynth.training.central_generator import Generating

    params, model = Params.model_validate(asked["params"]), Model.model_validate(asked["model"])
    family = model.family.build(**params.image.context())
    family.load_state_dict({name: torch.from_numpy(a) for name, a in initial.items()}, strict=False)
    half = Generating(family, model.training, asked["steps"], params.seed, own["weights"], own["shares"])
    return half, model.training


def save(path: Path, arrays: dict[str, np.ndarray], number: int) -> None:
    part = path.with_suffix(".part")
    save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, part, metadata={"round": str(number)})
    part.replace(path)
