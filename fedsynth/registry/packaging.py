"""The files of a registered version: weights, model.json, MLflow's description of them and its signature, no code."""

from __future__ import annotations

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsynth.params import Image
from fedsynth.registry.hashes import DATA
from fedsynth.training import weights

if TYPE_CHECKING:
    from mlflow.models import Model

# imported by serving.py and the families. Not fedsynth itself: no index has it, and whoever put a package of that name
# on one would be installed in its place.
NEEDED = ("torch", "monai", "einops", "numpy", "pandas", "safetensors", "pydantic", "pyyaml", "mlflow")
LOADER = "fedsynth.registry.serving"


def save(path: Path, folder: Path, about: dict[str, Any], model: Model) -> None:
    """Save the weights and model.json of `folder` as a model of MLflow that the installed fedsynth loads.

    It holds pinned requirements, and neither code nor a pickle. `model`: of which run it is, for MLflow.
    """
    from mlflow.pyfunc import save_model

    signature, example = _signature(Image(**about["image"]))
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / Path(DATA[0]).name
        data.mkdir()
        for name in (weights.FILE, weights.ABOUT):
            shutil.copyfile(folder / name, data / name)
        save_model(
            str(path),
            loader_module=LOADER,
            data_path=str(data),
            signature=signature,
            input_example=example,
            # without the local part: PyPI does not have "2.13.0+cpu"
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in NEEDED],
            mlflow_model=model,
        )


def described(about: dict[str, Any]) -> Model:
    """Return what MLflow wants to know of a model that is in memory: its signature, and who loads it."""
    from mlflow.models import Model
    from mlflow.pyfunc import add_to_model

    model = Model(signature=_signature(Image(**about["image"]))[0])
    add_to_model(model, loader_module=LOADER)
    return model


def _signature(image: Image) -> tuple[Any, Any]:
    """Return the model signature and an input example with one row for each label."""
    import numpy as np
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
    from mlflow.types.schema import AnyType, Array

    columns: list[ColSpec | TensorSpec] = [ColSpec(AnyType(), "label")]  # a name or an index
    example: dict[str, list] = {"label": image.labels}
    if image.given:
        kind: Any = DataType.double
        for _ in (image.given, *image.size):
            kind = Array(kind)
        columns.append(ColSpec(kind, "given"))
        example["given"] = [np.zeros((len(image.given), *image.size)).tolist() for _ in image.labels]
    made = TensorSpec(np.dtype("float32"), (-1, len(image.generated), *image.size))
    seed = ParamSchema([ParamSpec("seed", DataType.long, 0)])
    return ModelSignature(inputs=Schema(columns), outputs=Schema([made]), params=seed), pd.DataFrame(example)
