"""Persistor that keeps the global model across jobs."""

from __future__ import annotations

import numpy as np
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.model import ModelLearnable, ModelLearnableKey, make_model_learnable
from nvflare.app_common.abstract.model_persistor import ModelPersistor
from safetensors.numpy import load_file, save_file

from nvflare_jobs.server.run import config_dir, run_dir
from nvflare_jobs.server.saved import GLOBAL, SavedRounds


class Arrays(ModelPersistor):
    """Loads and saves the global model as safetensors.

    It starts from the job's file `initial`, or from what an earlier job of the same training (`key`) saved.
    """

    def __init__(self, key: str = "", initial: str = "initial.safetensors"):
        super().__init__()
        self.key, self.initial = key, initial
        self.done = 0  # completed rounds of this training, in earlier jobs and this one

    def load_model(self, fl_ctx: FLContext) -> ModelLearnable:
        self.saved = SavedRounds(fl_ctx, self.key)
        self.done = self.saved.restore(run_dir(fl_ctx))
        path = run_dir(fl_ctx) / GLOBAL if self.done else config_dir(fl_ctx) / self.initial
        return make_model_learnable(weights=load_file(path), meta_props={})

    def save_model(self, model: ModelLearnable, fl_ctx: FLContext) -> None:
        arrays = {name: np.ascontiguousarray(a) for name, a in model[ModelLearnableKey.WEIGHTS].items()}
        path, number = run_dir(fl_ctx) / GLOBAL, fl_ctx.get_prop("current_round")
        save_file(arrays, path.with_suffix(".part"), metadata={"round": str(number)})
        path.with_suffix(".part").replace(path)
        self.saved.save(run_dir(fl_ctx))
        self.done = number + 1
