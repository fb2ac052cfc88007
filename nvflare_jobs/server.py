"""The server's components of our jobs. They work on numpy arrays: the server needs neither torch nor MONAI, which saves its start-up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.abstract.model import ModelLearnable, ModelLearnableKey, make_model_learnable
from nvflare.app_common.abstract.model_persistor import ModelPersistor
from nvflare.app_common.aggregators.model_aggregator import ModelAggregator
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.app_common.workflows.model_controller import ModelController
from safetensors.numpy import load_file, save_file

from fedsynth.params import Block
from nvflare_jobs.federation import ROUNDS

GLOBAL, ANSWERS = "global.safetensors", "answers.json"


class Rounds(FedAvg):
    """FLARE's FedAvg controller. Both argument lists are spelt out so that FLARE's job export sees the base class's arguments."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)


class Arrays(ModelPersistor):
    """The global model as a safetensors file: `initial` beside the job's code, then `global.safetensors` in the run's folder."""

    def __init__(self, initial: str = "initial.safetensors"):
        super().__init__()
        self.initial = initial

    def load_model(self, fl_ctx: FLContext) -> ModelLearnable:
        return make_model_learnable(weights=load_file(_custom(fl_ctx) / self.initial), meta_props={})

    def save_model(self, model: ModelLearnable, fl_ctx: FLContext) -> None:
        arrays = {name: np.ascontiguousarray(a) for name, a in model[ModelLearnableKey.WEIGHTS].items()}
        done = fl_ctx.get_prop("current_round")
        path = _run_dir(fl_ctx) / GLOBAL
        save_file(arrays, path.with_suffix(".part"), metadata={"round": str(done)})
        path.with_suffix(".part").replace(path)


class Aggregate(ModelAggregator):
    """An algorithm's server half (fedsynth/algorithms) as a FLARE aggregator; refuses updates that are missing, not finite or do not fit.

    `algorithm` is the block of params.yaml as JSON text: FLARE would build a mapping with a class_path before it reached us.
    `sites` are those of which each round needs an update: where one fails, FLARE goes on with the others' for as long as it takes to
    end the job, and a round without that site would become the global model.
    """

    def __init__(self, algorithm: str, sites: list[str]):
        super().__init__()
        self.algorithm, self.sites = algorithm, sites
        self._built: Any = None
        self._updates: list[FLModel] = []

    def accept_model(self, model: FLModel) -> None:
        self._updates.append(model)

    def aggregate_model(self) -> FLModel:
        if self._built is None:
            self._built = Block(**json.loads(self.algorithm)).build()
        updates = [(u.meta["client_name"], float(u.meta["weight"]), u.params) for u in self._updates]
        check(updates, self.sites)
        difference = self._built.aggregate(updates)
        self._write_round()
        return FLModel(params=difference, params_type=ParamsType.DIFF, meta={})

    def _write_round(self) -> None:
        """FLARE's own metrics file leaves the sites out where the aggregator is not FLARE's."""
        sites = {u.meta["client_name"]: u.metrics for u in sorted(self._updates, key=lambda u: u.meta["client_name"])}
        record = {"round": self._updates[0].current_round, "sites": sites}
        with (_run_dir(self.fl_ctx) / ROUNDS).open("a") as file:
            file.write(json.dumps(record) + "\n")

    def reset_stats(self) -> None:
        self._updates = []


def check(updates: list[tuple[str, float, dict[str, np.ndarray]]], sites: list[str]) -> None:
    """Raises ValueError naming the site whose update is missing, has other names or shapes than the first site's, or NaN or Inf in it."""
    if missing := sorted(set(sites) - {site for site, _, _ in updates}):
        raise ValueError(f"no update from {', '.join(missing)}")
    first, _, expected = min(updates, key=lambda u: u[0])
    shapes = {name: a.shape for name, a in expected.items()}
    for site, weight, difference in updates:
        if {name: a.shape for name, a in difference.items()} != shapes:
            raise ValueError(f"{site} sent other parameters or shapes than {first}; do both run the same version?")
        if bad := [name for name, a in difference.items() if not np.issubdtype(a.dtype, np.floating)]:
            raise ValueError(f"{site} sent {bad[0]} as {difference[bad[0]].dtype}, which cannot be averaged")
        if bad := [name for name, a in difference.items() if not np.isfinite(a).all()]:
            raise ValueError(f"{site} sent NaN or Inf in {bad[0]}; lower the learning rate or look at that site's data")
        if not weight > 0:
            raise ValueError(f"{site} sent the weight {weight}")


class Ask(ModelController):
    """Ask every site one question and keep the answers: one task, with the arrays of `payload` as its data."""

    def __init__(self, sites: list[str], payload: str = "payload.safetensors"):
        super().__init__(persistor_id="")
        self.sites = sites
        self.payload = payload

    def run(self) -> None:
        model = FLModel(params=load_file(_custom(self.fl_ctx) / self.payload), current_round=0, total_rounds=1)
        results = self.send_model_and_wait(targets=self.sites, data=model)
        answers = {r.meta["client_name"]: r.meta["answer"] for r in results}
        if missing := sorted(set(self.sites) - set(answers)):
            self.panic(f"no answer from {', '.join(missing)}")
            return
        (_run_dir(self.fl_ctx) / ANSWERS).write_text(json.dumps(dict(sorted(answers.items()))))


def _run_dir(fl_ctx: FLContext) -> Path:
    return Path(fl_ctx.get_engine().get_workspace().get_run_dir(fl_ctx.get_job_id()))


def _custom(fl_ctx: FLContext) -> Path:
    return Path(fl_ctx.get_engine().get_workspace().get_app_custom_dir(fl_ctx.get_job_id()))
