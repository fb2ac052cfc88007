"""Stage `reference`: `local` at each site, `federated` by FedAvg, and `pooled` in simulation only.

nvflare_jobs/reference/ runs it with FLARE. It does not depend on generative models, so DVC keeps the references when
models change.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from fedsynth.data import manifest as table
from fedsynth.data.dataset import ImageSet, concatenate
from fedsynth.params import Params
from fedsynth.training import checkpoint
from fedsynth.training import weights as files
from fedsynth.uses import Table, Use
from fedsynth.worth.use_networks import (
    Networks,
    State,
    fit,
    from_arrays,
    network,
    state_of,
    testing,
    to_arrays,
    training,
    uses,
    with_modality_dropout,
)

Rows = list[dict[str, Any]]


class Federated:
    """One site's part of the `federated` reference: FedAvg of the networks of all uses and seeds at once.

    McMahan et al. 2017, algorithm 1. A use's budget of steps is divided over `score.rounds` rounds, so that this row
    has as many consecutive steps as any other; optimiser and learning rate schedule continue from round to round.
    `state`: a checkpoint file that outlives the process.
    """

    def __init__(self, params: Params, real: ImageSet, state: Path):
        from fedsynth.networks.optimizer import reach  # imports torch

        self.params, self.state = params, state
        self.images = training(real)
        shown, often = with_modality_dropout(self.images, params.image)
        self.trainings = {
            f"{name}/{seed}": use.training(use.network(seed), *shown.tensors(params.image), seed=seed, weights=often)
            for name, use in uses(params).items()
            for seed in params.score.seeds
        }
        self.done: int | None = None  # number of rounds done in this process
        parameters = [p for of in self.trainings.values() for p in of.net.parameters()]
        most = max((of.budget.lr * of.budget.steps for of in self.trainings.values()), default=0.0)
        self.movement = reach(parameters, most / params.score.rounds)  # an upper bound, of a round

    def round(self, incoming: State, number: int) -> tuple[State, dict[str, float], int]:
        """Train one round from the global networks.

        Returns the differences to them, the mean loss by use, and the number of steps.
        """
        import torch

        if self.done is None and number:
            self._restore()
        received, taken = from_arrays(incoming), 0
        difference: State = {}
        losses: dict[str, list[float]] = {}
        for key, of in self.trainings.items():
            name, seed = key.split("/")
            state = received[name][int(seed)]
            of.net.load_state_dict({n: torch.from_numpy(np.array(a)) for n, a in state.items()})
            rounds, steps = self.params.score.rounds, of.budget.steps
            n = steps * (number + 1) // rounds - steps * number // rounds
            losses.setdefault(name, []).append(of.steps(n))
            difference |= {f"{key}/{n}": a - state[n] for n, a in state_of(of.net).items()}
            taken += n
        self.done = number + 1
        checkpoint.save(self.state, {key: of.state() for key, of in self.trainings.items()})
        return (
            difference,
            {name: float(np.nanmean(of)) if np.isfinite(of).any() else 0.0 for name, of in losses.items()},
            taken,
        )

    def _restore(self) -> None:
        """Restore the state of an earlier process. Not called in the first round, which starts anew."""
        for key, state in (checkpoint.load(self.state) or {}).items():
            self.trainings[key].load_state(state)


def begin(params: Params) -> State:
    """Return the untrained networks of all uses and seeds as arrays: the global parameters of the first round."""
    return to_arrays(
        {name: {seed: state_of(use.network(seed)) for seed in params.score.seeds} for name, use in uses(params).items()}
    )


def fit_pooled(params: Params, sets: dict[str, ImageSet]) -> Networks:
    """Fit networks on all sites' training images together.

    In simulation only: in a federation the hospitals' images cannot be pooled.
    """
    together = concatenate([training(real) for real in sets.values()])
    return {
        name: {seed: fit(use, params, together, seed) for seed in params.score.seeds}
        for name, use in uses(params).items()
    }


def at_site(params: Params, site: str, real: ImageSet, sent: dict[str, Networks], state: Path) -> Rows:
    """Return the rows of `local` and of the networks sent by the centre, on the site's test images.

    The local networks are trained here and kept in the folder `state`; at a site that tests only there are none.
    """
    rows = []
    own = {} if params.split.only(site) == "test" else fit_local(params, real, state)
    for name, use in uses(params).items():
        for kind, networks in {"local": own, **sent}.items():
            if name in networks:
                on = {"local": site, "public": "public"}.get(kind, "all")
                rows += [
                    row(params, use, real, networks[name][seed], name, kind, on, "", site, seed)
                    for seed in params.score.seeds
                ]
    return rows


def fit_local(params: Params, real: ImageSet, state: Path) -> Networks:
    """Fit the `local` networks and keep them in the folder `state`, under a hash of what they were fitted on."""
    fitted: Networks = {}
    for name, use in uses(params).items():
        for seed in params.score.seeds:
            fitted.setdefault(name, {})[seed] = fit(use, params, training(real), seed)
            print(f"{name} with seed {seed} trained on own images", flush=True)  # resets stall_s
    files.save(_kept(params, real, state), to_arrays(fitted))
    return fitted


def local(params: Params, real: ImageSet, state: Path) -> Networks:
    """Return the `local` networks that the reference kept at this site, or fit them again."""
    path = _kept(params, real, state)
    return from_arrays(files.load(path)) if path.is_file() else fit_local(params, real, state)


def _kept(params: Params, real: ImageSet, state: Path) -> Path:
    blocks = {name: block.model_dump(mode="json") for name, block in params.score.uses.items()}
    about = {
        "uses": blocks,
        "seeds": params.score.seeds,
        "image": params.image.model_dump(mode="json"),
        "data": table.digest(real.manifest),
    }
    return (
        Path(state) / f"local-{hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]}.safetensors"
    )


def judge(params: Params, use: Use, real: ImageSet, state: State, seed: int) -> Table:
    """Return the per-image results of one network on the site's test images."""
    return use.judged(network(use, state, seed), *testing(real).tensors(params.image))


def row(
    params: Params,
    use: Use,
    real: ImageSet,
    state: State,
    name: str,
    kind: str,
    trained_on: str,
    model: str,
    site: str,
    seed: int,
    judged: Table | None = None,
) -> dict[str, Any]:
    """Return one row of the table: a network's metrics on the site's test images, the headline metric first."""
    metrics, n = use.summarise(judge(params, use, real, state, seed) if judged is None else judged)
    first = [use.headline, *(m for m in metrics if m != use.headline)]  # the table of worth shows the first metric
    shown = {m: None if np.isnan(metrics[m]) else round(float(metrics[m]), 6) for m in first}
    return {
        "use": name,
        "name": kind,
        "trained_on": trained_on,
        "model": model,
        "site": site,
        "seed": seed,
        "metrics": shown,
        "n": n,
    }
