"""`fedsynth serve`: MLflow's scoring server for a version whose hashes hold and which is not stale."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsynth.registry import history, loading, packaging
from fedsynth.registry.aliases import CHAMPION
from fedsynth.registry.versions import RegistryError, alias_of, client_of, version_of

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel


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
    by = history.words(who, although) if although else {}
    with loading.admitted(root, version, although) as found:
        made = PyFuncModel(packaging.described(found.about), loading.generator(found))
        if found.objections:
            _record(root, version, by, found.objections)
    return made


def champion(root: Path, model: str) -> int:
    """Return the version in use. Raises RegistryError where there is none."""
    version_of(root, model)
    if (number := alias_of(root, model, CHAMPION)) is None:
        raise RegistryError(
            f"no version of {model} is the {CHAMPION}; promote one (`python -m flows.promote {model}`), or name one:"
            " --version N"
        )
    return int(number)


def _record(root: Path, version: Any, by: dict[str, str], objections: list[str]) -> None:
    client, at = client_of(root), history.now()
    tags = {"although": by["why"], "by": by["by"], "at": at, "overruled": "; ".join(objections)[:5000]}
    history.replace_tags(client, version, "served", tags)
    history.add(client, version, f"- {at} Served, by {by['by']}, although: {by['why']}")
