"""The server's half of that job: draws images, calls all sites at once, and updates the generator.

Unlike the server of all other jobs it needs torch and MONAI.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from nvflare.apis.fl_component import FLComponent
from nvflare.collab import CollabCallError, collab
from safetensors.numpy import load_file, save_file

from nvflare_jobs.server import round_log
from nvflare_jobs.server.run import SHOWN, Progress, config_dir, question, refuse, run_dir
from nvflare_jobs.server.saved import GLOBAL
from nvflare_jobs.server.updates import LARGEST, Unusable, failure, numbers

if TYPE_CHECKING:
    from fedsynth.params import Training
    from fedsynth.training.central_generator import Generating

Read = TypeVar("Read")


class Centre(Progress, FLComponent):
    """Trains the generator with those of `sites` whose answers can be used, at least `quorum` of them (0: all).

    A site that fails, takes longer than `call_s` seconds for a step (`begin_s` for its start), or sends what cannot be
    used, is left out for the rest of the round, and asked again in the next; one that did not begin is not. With fewer
    than `quorum` sites the job ends. A job that is submitted again starts from the beginning.
    """

    def __init__(
        self, sites: list[str], call_s: float, begin_s: float, initial: str = "initial.safetensors", quorum: int = 0
    ):
        super().__init__()
        self.sites, self.call_s, self.begin_s, self.initial, self.quorum = sites, call_s, begin_s, initial, quorum
        self.records: list[dict[str, Any]] = []
        self.left_out: dict[str, str] = {}  # site -> why it is not asked any more in this round

    @collab.main
    def run(self) -> None:
        self.fl_ctx = collab.fl_ctx
        asked = question(self.fl_ctx)
        proxies = {proxy.name: proxy for proxy in collab.clients}
        self.left_out = {site: round_log.ABSENT for site in self.sites if site not in proxies}
        if len(self.left_out) > len(self.sites) - self._needed:
            missing, needed = ", ".join(self.left_out), f"{self._needed} of {len(self.sites)} sites are needed"
            refuse(self.fl_ctx, f"{needed}; not there: {missing}")
        with ThreadPoolExecutor(len(self.sites)) as pool:
            self._pool, self._proxies = pool, proxies
            self._train(asked)
        round_log.complete(run_dir(self.fl_ctx))

    @property
    def _needed(self) -> int:
        return min(self.quorum or len(self.sites), len(self.sites))

    def _train(self, asked: dict[str, Any]) -> None:
        own = asked.pop("centre")  # what sites need not know about each other
        self._ask(lambda site, proxy: proxy(timeout=self.begin_s).begin(asked), lambda site, answer: answer)
        absent = dict(self.left_out)
        half, training = generating(asked, own, load_file(config_dir(self.fl_ctx) / self.initial))
        players = list(half.family.players())
        for number in range(training.rounds):
            began, self.left_out = time.monotonic(), dict(absent)
            for _ in range(asked["steps"]):
                self._step(half)
            told = self._ask(
                lambda site, proxy: proxy(timeout=self.call_s).end_round(), lambda site, answer: means(answer, players)
            )
            save(run_dir(self.fl_ctx) / GLOBAL, half.arrays(), number)
            self._write(number, told, own["images"], time.monotonic() - began)

    def _step(self, half: Generating) -> None:
        drawn = half.draw()
        half.learn(
            self._ask(
                lambda site, proxy: proxy(timeout=self.call_s).step(*drawn[site]),
                lambda site, answer: gradient(answer, drawn[site][0].shape[1:]),
            )
        )

    def _ask(self, call: Callable[[str, Any], Any], read: Callable[[str, dict[str, Any]], Read]) -> dict[str, Read]:
        """Call all sites of the round at the same time and return what `read` makes of their answers.

        A site without a usable answer is left out from here on; the job ends (RuntimeError) where too few have one.
        """
        there = [site for site in self.sites if site not in self.left_out]
        waiting = {site: self._pool.submit(call, site, self._proxies[site]) for site in there}
        found: dict[str, Read] = {}
        for site, future in waiting.items():
            try:
                found[site] = read(site, answered(future.result()))
            except CollabCallError as error:
                self.left_out[site] = f"no answer: {error}"
            except Unusable as error:
                self.left_out[site] = str(error)
            except Exception as error:  # of whatever a site may think of
                self.left_out[site] = f"sent what cannot be read ({type(error).__name__})"
        if len(found) < self._needed:
            refuse(self.fl_ctx, "; ".join(f"site {site}: {why}" for site, why in sorted(self.left_out.items())))
        return found

    def _write(self, number: int, told: Mapping[str, Any], images: dict[str, float], seconds: float) -> None:
        sites = {site: of | {"weight": float(images[site])} for site, of in sorted(told.items())}
        record = {"round": number, "sites": sites, "seconds": round(seconds, 2)}
        self.records.append(record | ({"left_out": dict(sorted(self.left_out.items()))} if self.left_out else {}))
        round_log.append(run_dir(self.fl_ctx) / round_log.ROUNDS, self.records[-1])

    def progress(self) -> dict[str, Any]:
        return {"rounds": self.records[-SHOWN:]}


def answered(answer: Any) -> dict[str, Any]:
    """Return a site's answer. Raises Unusable for one that is none, or the word of a failure."""
    if type(answer) is not dict:
        raise Unusable("sent what is no answer; does it run the same version?")
    if answer.get("failure") is not None:
        raise Unusable(failure(answer["failure"]))
    return answer


def gradient(answer: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """Return the gradient at the second batch that a site was sent, float32 of its shape.

    Raises Unusable for anything else.
    """
    feedback = answer.get("feedback")
    if type(feedback) is not np.ndarray or feedback.dtype != np.float32 or feedback.shape != shape:
        raise Unusable("sent no gradient of the shape of its images; does it run the same version?")
    if not (np.abs(feedback) <= LARGEST).all():
        raise Unusable("sent no gradient of finite numbers; did its training diverge?")
    return feedback


def means(answer: dict[str, Any], players: list[str]) -> dict[str, float]:
    """Return the mean losses of a site's round and its number of steps. Raises Unusable for anything else."""
    losses = answer.get("losses")
    if type(losses) is not dict or not set(losses) <= set(players):
        raise Unusable("sent no mean losses at the end of the round; does it run the same version?")
    return numbers({f"loss/{name}": loss for name, loss in losses.items()} | {"steps": answer.get("steps")})


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
    seed = params.seeded(model.seed).seed
    half = Generating(family, model.training, asked["steps"], seed, own["weights"], own["shares"])
    return half, model.training


def save(path: Path, arrays: dict[str, np.ndarray], number: int) -> None:
    part = path.with_suffix(".part")
    save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, part, metadata={"round": str(number)})
    part.replace(path)
