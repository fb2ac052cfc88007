"""The registry of models in MLflow: each family's weights as a version that loads in a clean process, once for the same weights."""

from __future__ import annotations

import logging
import tempfile
import threading
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsynth import outputs, weights
from fedsynth.card import card
from fedsynth.lineage import key, lineage
from fedsynth.params import Image, Params
from fedsynth.settings import quiet, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

NEEDED = ("torch", "monai", "einops", "numpy", "pandas", "safetensors", "pydantic", "pyyaml", "mlflow")  # by serving.py and the families
# fifty lines at the first use of a database, and more at each model
NOISY = ("alembic", "mlflow.store.db.utils", "mlflow.store.model_registry", "mlflow.pyfunc")
_saving = threading.Lock()  # MLflow keeps the model that a file of code sets in a global variable


def registered_name(model: str) -> str:
    return f"fedsynth-{model}"


def registered(root: Path, params: Params) -> bool:
    """Whether the weights of every model of params.yaml, as they lie there, are in the registry."""
    files = {model: root / "models" / model / weights.FILE for model in params.models}
    if not all(path.is_file() for path in files.values()):
        return False
    if tracking_uri(root).startswith("sqlite:///") and not Path(tracking_uri(root).removeprefix("sqlite:///")).is_file():
        return False
    client = client_of(root)
    return all(find(client, model, weights.sha256(path)) for model, path in files.items())


def client_of(root: Path) -> MlflowClient:
    quiet()  # before the import: MLflow's telemetry starts with it
    from mlflow import MlflowClient
    from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR, MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT

    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=tracking_uri(root))


def find(client: MlflowClient, model: str, digest: str) -> str | None:
    """The newest version of `fedsynth-<model>` that holds the weights with this sha256."""
    found = client.search_model_versions(f"name='{registered_name(model)}' and tags.weights_sha256='{digest}'")
    return str(max(int(v.version) for v in found)) if found else None


def register(root: Path, model: str, run_id: str) -> str:
    """Put models/<model> into the registry as `fedsynth-<model>`, made by the run `run_id`. Returns the version.

    The same weights are one version, however often this is called. Raises WeightsError where the weights are not those of model.json.
    """
    from mlflow.entities import LoggedModelOutput

    client, folder = client_of(root), root / "models" / model
    about, digest = outputs.read(folder / weights.ABOUT, f"train@{model}"), weights.sha256(folder / weights.FILE)
    if about["weights_sha256"] != digest:
        raise weights.WeightsError(f"{folder / weights.FILE} is not what {weights.ABOUT} describes; run `dvc checkout --force`")
    if known := find(client, model, digest):
        return known
    tags = {**lineage(root), **{key(f"data.digest.{site}"): value for site, value in about["digests"].items()}}
    tags |= {"weights_sha256": digest, "model": model, "flare.job_id": str(about["job_id"]), "fedsynth": about["fedsynth"]}
    logged = client.create_logged_model(client.get_run(run_id).info.experiment_id, model, run_id, tags)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            _save(Path(temporary) / "model", folder, about, run_id, logged)
            client.log_model_artifacts(logged.model_id, str(Path(temporary) / "model"))
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    _name(client, model)
    # not by models:/<id>, which MLflow's SQL store looks up in the process's global tracking URI instead of the client's
    made = client.create_model_version(
        registered_name(model),
        logged.artifact_location,
        run_id,
        tags,
        description=card(about, worth_of(root, model)),
        model_id=logged.model_id,
    )
    return str(made.version)


def worth_of(root: Path, model: str) -> dict[str, dict[str, Any]]:
    """Retained and gap closed by use, where this model has been scored."""
    if not all((root / "reports" / name).is_file() for name in ("reference.json", f"score/{model}.json")):
        return {}
    from fedsynth import worth

    return worth.summary(worth.rows(root, [model])).get(model, {})


def _name(client: MlflowClient, model: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(registered_name(model), description="A federated generative model: labels in, images out.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _save(path: Path, folder: Path, about: dict[str, Any], run_id: str, logged: LoggedModel) -> None:
    """The model as a folder that a process without fedsynth can load: weights, model.json, this package's code, pinned requirements."""
    from mlflow.models import Model
    from mlflow.pyfunc import save_model

    package = Path(__file__).parent
    signature, example = _signature(Image(**about["image"]))
    with _saving:
        save_model(
            str(path),
            python_model=str(package / "serving.py"),
            artifacts={"weights": str(folder / weights.FILE), "about": str(folder / weights.ABOUT)},
            code_paths=[str(package)],
            signature=signature,
            input_example=example,
            # "2.13.0+cpu" is a build that PyPI does not have
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in NEEDED],
            mlflow_model=Model(artifact_path=logged.artifact_location, run_id=run_id, model_uuid=logged.model_id, model_id=logged.model_id),
        )


def _signature(image: Image) -> tuple[Any, Any]:
    """The call's signature and an example of its input: one row for each label."""
    import numpy as np
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
    from mlflow.types.schema import AnyType, Array

    columns: list[ColSpec | TensorSpec] = [ColSpec(AnyType(), "label")]  # a name or a place
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
