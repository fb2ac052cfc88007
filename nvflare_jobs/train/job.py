"""The centre's half: train one model over the sites that passed; write its weights, history and description."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fedsynth
from fedsynth import checks
from fedsynth.data import outputs
from fedsynth.params import Model, Params, Training, names
from fedsynth.settings import Settings
from fedsynth.stages import inputs
from fedsynth.training import weights
from nvflare_jobs import keys
from nvflare_jobs.centre import build_rounds, jobs, program
from nvflare_jobs.exchange import job as exchange
from nvflare_jobs.server import round_log as written
from nvflare_jobs.server.saved import BESIDE, GLOBAL
from nvflare_jobs.train.beginning import after, beginning

if TYPE_CHECKING:
    from fedsynth.families import Family

Arrays = dict[str, np.ndarray]


def stage(params: Params, settings: Settings, name: str) -> None:
    if name not in params.models:
        raise program.StageError(f"params.yaml has no models.{name}; it has {', '.join(params.models)}")
    validation = program.validated_for_training(params, settings.root)
    sites = validation["used"]
    digests = {names.key(site): validation["sites"][site]["digest"] for site in sites}
    folder, rounds = settings.root / ".work" / "train" / name, params.models[name].training.rounds
    counted = {site: sum(of) for site, of in training_images(params, validation).items()}
    found = [*checks.of_sites_that_train(params, name, len(sites))]
    if found := [*found, *(checks.of_counts(params, name, counted) if counted else [])]:
        raise program.StageError("\n".join(map(str, found)))
    family = described(params, name)
    begun = beginning(params, name, family, settings.root)
    initial = begin(params, name, begun.arrays if begun else None)
    about = begun.told(name, initial) if begun else None
    code = inputs.code_digest(settings.root, f"train@{name}")
    config = question(params, name, digests, code, about)
    if params.models[name].algorithm.build().job == "exchange":
        job = exchange.prepare(folder, params, name, config, initial, shares(params, validation), settings.thin)
    else:
        job = build_rounds.train(
            folder,
            f"train_{name}",
            sites,
            params.consortium,
            config,
            config["model"]["algorithm"],
            initial,
            rounds,
            thin=settings.thin,
            compression=config["model"]["compression"],
            images=counted,
            players=list(family.players()),
            averaged=averaged(family, params.models[name].training),
            frozen=sorted(family.frozen & initial.keys()),
        )
    if params.models[name].encryption and settings.federation == "simulator":
        keys.simulate(settings.state)
    began = time.monotonic()
    result = jobs.run(f"train@{name}", job, sites, settings, rounds)
    final = {n: a for n, a in weights.load(result.folder / GLOBAL).items() if ":" not in n}
    if (result.folder / BESIDE).is_file():
        final |= of_members(weights.load(result.folder / BESIDE), {n: final[n] for n in family.frozen & final.keys()})
    write(settings.root / "models" / name, params, name, final, result, validation, time.monotonic() - began, about)


def of_members(beside: Arrays, frozen: Arrays) -> Arrays:
    """Return the arrays that the centre keeps beside the mean; each site's own model has the frozen ones, too."""
    members = {name.partition("/")[0] for name in beside if "/" in name} if frozen else set()
    return beside | {f"{member}/{name}": array for member in members for name, array in frozen.items()}


def question(
    params: Params, name: str, digests: dict[str, str], code: str = "", begun: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the job's config.

    `key` names this training: equal params, data, code and start give the same key, so that a restart finds its state.
    `begun`: what the training begins with (beginning.py), of which a site needs the digest and the names.
    """
    config = {
        "params": program.public(params),
        "name": name,
        "model": params.models[name].model_dump(mode="json"),
        "digests": digests,
    }
    seen = {k: config["params"][k] for k in ("seed", "image", "audit")} | {
        k: config[k] for k in ("name", "model", "digests")
    }
    seen |= {"code": code} if code else {}  # a training must not continue under other code
    if begun:
        config["start"] = {"weights_sha256": begun["weights_sha256"], "taken": begun["names"]}
        seen["start"] = config["start"]
    return config | {"key": hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:16]}


def begin(params: Params, name: str, taken: Arrays | None = None) -> Arrays:
    """Return the initial global parameters for the seed, with the arrays that the algorithm sends beside them.

    `taken`: in the place of the seed's, by name. Raises StageError naming the keys of params.yaml that cannot be used.
    """
    from fedsynth.checks import of_models
    from fedsynth.training.initial import initial

    if found := of_models.alone(params, name):
        raise program.StageError("\n".join(map(str, found)))
    model = params.models[name]
    return initial(model, params.image, params.seeded(model.seed).seed, taken)


def described(params: Params, name: str) -> Family:
    """Return a model's family without memory for its parameters: for its players and phases."""
    import torch

    from fedsynth.training.initial import built

    with torch.device("meta"):
        return built(params.models[name], params.image)


def averaged(family: Family, training: Training) -> list[int]:
    """Return the rounds in which sites send averaged (EMA) weights: the last one of each phase."""
    rounds = range(training.rounds) if training.ema else ()
    return [number for number in rounds if family.phase(number, training.rounds)[2] == number + 1]


def epsilon(model: Model, rounds: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return epsilon, delta, unit and relation of the training; None without a privacy mechanism.

    `total` is what all trainings have spent at a site, for one subject more or less. Both are the largest over the
    sites, because a subject is taken to be at one site only, and None (unknown) where a site that took part has not
    reported its own.
    """
    if model.privacy is None:
        return None
    mechanism = model.privacy.build()

    def largest(name: str) -> float | None:
        spent = [numbers.get(name) for record in rounds for numbers in record["sites"].values()]
        return None if not spent or None in spent else max(spent)

    return {
        "epsilon": largest("epsilon"),
        "total": largest("epsilon_total"),
        "delta": mechanism.delta,
        "unit": mechanism.unit,
        "relation": mechanism.relation,
    }


def training_images(params: Params, validation: dict[str, Any]) -> dict[str, list[int]]:
    """Return, by site, the training images of each label, as validation has shown them.

    A withheld cell counts as the most that it can be ("< 5" as 4).
    """
    cells = {site: of for site in validation["used"] if (of := validation["sites"][site].get("counts"))}
    return {site: _train(of, params.image.labels, lambda n: int(n.split()[-1]) - 1) for site, of in cells.items()}


def _train(cells: dict[str, Any], labels: list[str], withheld: Callable[[str], int]) -> list[int]:
    """Return the training images of each label at a site. `withheld` maps a cell such as "< 5" to a number."""
    found = [cells.get(label, {}).get("train", 0) for label in labels]
    return [n if isinstance(n, int) else withheld(n) for n in found]


def shares(params: Params, validation: dict[str, Any]) -> dict[str, list[int]]:
    """Return, by site, the training images of each label, as validation has shown them; a withheld cell counts as one.

    Where models are not conditioned on labels, every label has all of the site's images.
    """
    cells = {site: validation["sites"][site]["counts"] for site in validation["used"]}
    found = {site: _train(of, params.image.labels, lambda _: 1) for site, of in cells.items()}
    return found if params.image.tells_label else {site: [sum(of)] * len(of) for site, of in found.items()}


def _mixture(params: Params, validation: dict[str, Any]) -> dict[str, list[int]]:
    """The same by the sites' keys, with which the names of their arrays begin."""
    return {names.key(site): of for site, of in shares(params, validation).items()}


def history(result: jobs.Result, seconds: float) -> dict[str, Any]:
    """Return the rounds as the server recorded them, each once.

    `resumed_at`: rounds at which another job continued the training. `seconds`: the time of this job.
    """
    rounds = written.read(result.folder / written.ROUNDS)
    resumed = [record["round"] for record in rounds if record.get("resumed")]
    return {"job_id": result.job_id, "seconds": round(seconds, 1), "resumed_at": resumed, "rounds": rounds}


def write(folder: Path, params: Params, name: str, arrays: Arrays, result: jobs.Result, validation: dict[str, Any],
          seconds: float, begun: dict[str, Any] | None = None) -> None:  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    weights.save(folder / "weights.safetensors", arrays, {"model": name})
    went = history(result, seconds)
    outputs.write(folder / "history.json", went)
    model = params.models[name].model_dump(mode="json")
    spent = after(epsilon(params.models[name], went["rounds"]), begun)
    facts = {
        "name": name,
        **model,
        "image": params.image.model_dump(mode="json"),
        "seed": params.seeded(params.models[name].seed).seed,
        "job_id": result.job_id,
        "sites": {site: validation["sites"][site]["images"] for site in validation["used"]},
        "digests": {site: validation["sites"][site]["digest"] for site in validation["used"]},
        "fedsynth": fedsynth.__version__,
        "weights_sha256": weights.sha256(folder / "weights.safetensors"),
        **({"began": begun} if begun else {}),
        **({"epsilon": spent} if spent else {}),
        **({"mixture": _mixture(params, validation)} if any("/" in name for name in arrays) else {}),
    }
    outputs.write(folder / "model.json", facts)


if __name__ == "__main__":
    program.main(lambda params, settings: stage(params, settings, sys.argv[1]))
