"""The files of a registered version: what a process without fedsynth loads, and the MLflow signature."""

from __future__ import annotations

import threading
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsynth.params import Image
from fedsynth.training import weights

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel


# imported by serving.py and the families
NEEDED = ("torch", "monai", "einops", "numpy", "pandas", "safetensors", "pydantic", "pyyaml", "mlflow")
_saving = threading.Lock()  # MLflow passes the model of a code file through a global variable


def save(path: Path, folder: Path, about: dict[str, Any], run_id: str, logged: LoggedModel) -> None:
    """Save the model as a folder that a process without fedsynth can load.

    It holds the weights, model.json, the code of this package and pinned requirements.
    """
    from mlflow.models import Model
    from mlflow.pyfunc import save_model

    package = Path(__file__).parents[1]
    signature, example = _signature(Image(**about["image"]))
    with _saving:
        save_model(
            str(path),
            python_model=str(Path(__file__).parent / "serving.py"),
            artifacts={"weights": str(folder / weights.FILE), "about": str(folder / weights.ABOUT)},
            code_paths=[str(package)],
            signature=signature,
            input_example=example,
            # without the local part: PyPI does not have "2.13.0+cpu"
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in NEEDED],
            mlflow_model=Model(
                artifact_path=logged.artifact_location,
                run_id=run_id,
                model_uuid=logged.model_id,
                model_id=logged.model_id,
            ),
        )


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
