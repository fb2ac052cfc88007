"""A registered model as MLflow serves it: labels (and given channels) in, images out.

MLflow copies this file into the model.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from fedsynth.params import Image
from fedsynth.training import sampling, weights

BATCH = 64  # images per batch: bounds the memory of a large request


class Generator(PythonModel):
    """The model behind MLflow's scoring server.

    Input column `label`: names or indices of params.yaml's `image.labels`. Input column `given`, for models with given
    channels: nested lists (G, *S) in [-1, 1]. Parameter `seed`: the same seed and rows give the same images.
    """

    def load_context(self, context: Any) -> None:
        import torch

        with open(context.artifacts["about"], encoding="utf-8") as file:
            about = json.load(file)
        self.image = Image(**about["image"])
        family = weights.build_family(about, weights.load(context.artifacts["weights"]))
        self.family = family.to("cuda" if torch.cuda.is_available() else "cpu")

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> np.ndarray:
        """Return images (N, C, *S) float32 in [-1, 1]; C: the generated channels in the order of params.yaml.

        Raises MlflowException naming row and value.
        """
        import torch

        y = torch.tensor([self._place(row, label) for row, label in enumerate(model_input["label"])], dtype=torch.long)
        given = torch.from_numpy(self._given(model_input["given"])) if self.image.given else None
        generator = torch.Generator().manual_seed(int((params or {}).get("seed", 0)))
        made = [np.empty((0, len(self.image.generated), *self.image.size), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(y), BATCH):
                part = slice(start, start + BATCH)
                made.append(
                    sampling.draw(
                        self.family, self.image, y[part], None if given is None else given[part], generator
                    ).numpy()
                )
        return np.concatenate(made)

    def _place(self, row: int, label: Any) -> int:
        known = self.image.labels
        if label in known:
            return known.index(label)
        if isinstance(label, int | np.integer) and not isinstance(label, bool) and 0 <= label < len(known):
            return int(label)
        raise _wrong(
            f"row {row}: the label {label!r} is not known; this model knows {', '.join(known)} (or places 0 to"
            f" {len(known) - 1})"
        )

    def _given(self, column: pd.Series) -> np.ndarray:
        shape, names = (len(self.image.given), *self.image.size), ", ".join(self.image.given)
        rows = []
        for row, value in enumerate(column):
            try:
                array = np.asarray(value, dtype=np.float32)
            except (TypeError, ValueError) as error:
                raise _wrong(
                    f"row {row}: `given` ({names}) is not nested lists of numbers of the shape {shape}: {error}"
                ) from error
            if array.shape != shape:
                raise _wrong(f"row {row}: `given` ({names}) has the shape {array.shape}, not {shape}")
            if not np.isfinite(array).all():
                raise _wrong(f"row {row}: `given` ({names}) holds NaN or Inf")
            rows.append(array)
        return np.stack(rows) if rows else np.empty((0, *shape), np.float32)


def _wrong(message: str) -> MlflowException:
    """Return the exception whose message the scoring server sends to the caller, with status 400."""
    return MlflowException.invalid_parameter_value(message)


set_model(Generator())
