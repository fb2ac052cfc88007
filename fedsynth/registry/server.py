"""`fedsynth serve`: MLflow's scoring server for a version whose hashes hold and which is not stale."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from fedsynth.registry import by_hand, history, loading, packaging
from fedsynth.registry.by_hand import CHAMPION
from fedsynth.registry.versions import RegistryError, alias_of, aliased, client_of, version_of

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

log = logging.getLogger(__name__)


def serve(root: Path, model: str, number: int | None, host: str, port: int, who: str, although: str = "") -> None:
    """Serve a version (default: the champion) until the process is ended.

    The model is in memory by then: what happens to the artifact later changes nothing. `although`: why a version that
    is stale or has no hashes is served nevertheless; it is written to the version with who and when.
    """
    import uvicorn
    from mlflow.pyfunc.scoring_server import init

    uvicorn.run(init(model_of(root, model, number, who, although)), host=host, port=port, log_level="warning")


def model_of(root: Path, model: str, number: int | None, who: str, although: str = "") -> PyFuncModel:
    """Return the model as MLflow's scoring server takes it, made from weights and model.json that were checked.

    So neither MLmodel nor any other file of the artifact decides what is run.
    """
    from mlflow.pyfunc import PyFuncModel

    version = version_of(root, model, champion(root, model) if number is None else number)
    if although:
        history.words(who, although)  # refused, if need be, before anything is loaded
    with loading.admitted(root, version, although) as found:
        made = PyFuncModel(packaging.described(found.about), loading.generator(found))
        if found.objections:
            history.overruled(client_of(root), version, "served", "Served", who, although, found.objections)
    return made


def champion(root: Path, model: str) -> int:
    """Return the version in use. Raises RegistryError where there is none."""
    version_of(root, model)
    if (number := alias_of(root, model, CHAMPION)) is None:
        raise RegistryError(
            f"no version of {model} is the {CHAMPION}; promote one (`fedsynth promote {model}`), or name one:"
            " --version N"
        )
    if said := by_hand.changed(root, model):
        log.warning("%s", said)
    return int(number)


def only_champion(root: Path) -> tuple[str, int]:
    """Return model and version in use where a single model has one. Raises RegistryError naming the models."""
    found = aliased(root, CHAMPION)
    used = {model: int(number) for model, number in found.items() if number is not None}
    if len(used) > 1:
        listed = ", ".join(f"{model} (version {number})" for model, number in used.items())
        raise RegistryError(f"{len(used)} models have a {CHAMPION}: {listed}; name the model instead of `{CHAMPION}`")
    if not used:
        raise RegistryError(
            f"no model has a {CHAMPION}; promote a version (`fedsynth promote MODEL`), or name a model with"
            f" --version N; models that are registered: {', '.join(found) or 'none'}"
        )
    return next(iter(used.items()))
