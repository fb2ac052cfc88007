"""A registered model as MLflow serves it: labels (and given channels) in, images out.

MLflow imports this module of the installed package by name (`loader_module`); no code lies in the model.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

from fedsynth.params import Image
from fedsynth.training import sampling, weights

BATCH = 64  # images per batch: bounds the memory of a large request
log = logging.getLogger(__name__)


class Generator:
    """The model behind MLflow's scoring server, from a folder with weights and model.json.

    Input column `label`: names or indices of params.yaml's `image.labels`. Input column `given`, for models with given
    channels: nested lists (G, *S) in [-1, 1]. Parameter `seed`: the same seed and rows give the same images.
    """

    def __init__(self, folder: Path):
        about = json.loads((folder / weights.ABOUT).read_text(encoding="utf-8"))
        self.image = Image(**about["image"])
        self.family = weights.build_family(about, weights.load(folder / weights.FILE))

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> np.ndarray:
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


def _load_pyfunc(path: str) -> Generator:
    """Load the model for MLflow, once its hashes hold. `path`: the folder with the data in the model's artifact.

    A plain `mlflow.pyfunc.load_model` comes here only if the artifact's MLmodel says so, and it sees no tag unless the
    model was named as a version: `fedsynth serve` and fedsynth/registry/loading.py look first.
    """
    from fedsynth.registry import hashes, stale

    folder = Path(path).parents[1]
    title, tags = _registered(folder)
    kept = hashes.alone(title, folder) if tags is None else hashes.check(title, folder, tags)
    if tags is None:
        log.warning("%s was held against the hashes in it alone: it was not loaded as models:/NAME/VERSION", title)
    elif said := stale.said(title, tags):
        raise stale.Stale(f"{said}; to serve it nevertheless: `fedsynth serve MODEL --version N --although TEXT`")
    hashes.warn_of_drift(title, kept, json.loads((Path(path) / weights.ABOUT).read_text(encoding="utf-8")))
    return Generator(Path(path))


def _registered(folder: Path) -> tuple[str, dict[str, str] | None]:
    """Return title and tags of the version that MLflow has loaded, tags None where it was loaded by its path.

    MLflow notes name and version in the folder that it downloads. No tracking server is asked where none is set: MLflow
    would make a database in the working directory.
    """
    import mlflow
    import yaml
    from mlflow.tracking import is_tracking_uri_set

    from fedsynth.registry import hashes

    note = folder / hashes.MLFLOWS_OWN
    if not note.is_file() or not is_tracking_uri_set():
        return f"the model in {folder}", None
    of = yaml.safe_load(note.read_text(encoding="utf-8"))
    version = mlflow.MlflowClient().get_model_version(str(of["model_name"]), str(of["model_version"]))
    return f"{version.name} version {version.version}", dict(version.tags)


def _wrong(message: str) -> MlflowException:
    """Return the exception whose message the scoring server sends to the caller, with status 400."""
    return MlflowException.invalid_parameter_value(message)
