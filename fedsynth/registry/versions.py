"""Model versions in MLflow's registry: each set of weights is one version, with the verdict on it."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsynth.data import outputs
from fedsynth.errors import UserError
from fedsynth.params import Params, names, study_of
from fedsynth.registry import began, hashes, moved, packaging, promotion, runs
from fedsynth.registry.lineage import key, lineage
from fedsynth.registry.place import there
from fedsynth.report.card import FILE, LONGEST, card, model_card, papers
from fedsynth.settings import quiet, tracking_uri
from fedsynth.training import weights

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.models import Model

# these log about fifty lines at the first use of a database, and more for each model
NOISY = ("alembic", "mlflow.store.db.utils", "mlflow.store.model_registry", "mlflow.pyfunc")
HISTORY = "\n\nWhat was done to this version:\n\n"  # separates the card from the history in a description


class RegistryError(UserError):
    """A model, version or alias does not exist or cannot be used; the message says what there is."""


def registered_name(root: Path, model: str) -> str:
    """Return the name under which a model of the project's study is registered: `<study>-<model>`."""
    return f"{study_of(root)}-{model}"


def model_of(name: str) -> str:
    """Return the model of a registered name: what follows its last "-"."""
    return name.rpartition("-")[2]


def of_study(root: Path) -> list[ModelVersion]:
    """Return all versions of the study's models; those of other studies on the same server are none of its business."""
    study = study_of(root)
    found = client_of(root).search_model_versions(f"name LIKE '{study}-%'")
    return [version for version in found if version.name.rpartition("-")[0] == study]


def registered(root: Path, params: Params) -> bool:
    """Whether the current weights of every model of params.yaml are registered with their current verdict."""
    files = {model: root / "models" / model / weights.FILE for model in params.models}
    if not all(path.is_file() for path in files.values()):
        return False
    if not there(root):
        return False
    client = client_of(root)
    return all(
        (number := find(root, model, weights.sha256(path))) is not None and _judged(client, root, params, model, number)
        for model, path in files.items()
    )


def _judged(client: MlflowClient, root: Path, params: Params, model: str, number: str) -> bool:
    """Whether the tags of a version agree with the current scores; True for a model without scores."""
    if not (root / "reports" / "score" / f"{model}.json").is_file():
        return True
    from fedsynth.worth.facts import facts

    wanted, tags = (
        promotion.tags(facts(params, root, model)),
        client.get_model_version(registered_name(root, model), number).tags,
    )
    return all(tags.get(key(name)) == value for name, value in wanted.items())


def models_of_study(root: Path) -> list[RegisteredModel]:
    """Return the registered models of the study, with their aliases and tags."""
    study = study_of(root)
    found = client_of(root).search_registered_models(f"name LIKE '{study}-%'", max_results=1000)
    return [model for model in found if model.name.rpartition("-")[0] == study]


def client_of(root: Path) -> MlflowClient:
    moved.follow(root)
    quiet()  # before the import: MLflow's telemetry starts with it
    from mlflow import MlflowClient
    from mlflow.environment_variables import (
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,
        MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT,
    )

    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=tracking_uri(root))


def find(root: Path, model: str, digest: str) -> str | None:
    """Return the newest version of a model with weights of this SHA-256; None if there is none.

    One without hashes is none: its weights are registered again, with hashes.
    """
    query = f"name='{registered_name(root, model)}' and tags.weights_sha256='{digest}'"
    found = client_of(root).search_model_versions(query)
    return str(max((int(v.version) for v in found if hashes.TAG in v.tags), default="")) or None


def register(root: Path, model: str, run_id: str, facts: dict[str, Any] | None = None) -> str:
    """Register models/<model> as `<study>-<model>` with its card. Returns the version.

    `run_id`: the run that made the weights. `facts`: as from fedsynth/worth/facts.py, None if the model was not scored.
    Weights that are already registered keep their version. Raises WeightsError if the weights are not those of
    model.json.
    """
    from mlflow.entities import LoggedModelOutput

    client, name, folder = client_of(root), registered_name(root, model), root / "models" / model
    about, digest = outputs.read(folder / weights.ABOUT, f"train@{model}"), weights.sha256(folder / weights.FILE)
    if about["weights_sha256"] != digest:
        raise weights.WeightsError(
            f"{folder / weights.FILE} is not what {weights.ABOUT} describes; run `dvc checkout --force`"
        )
    if known := find(root, model, digest):
        return known
    tags = {
        **lineage(root),
        **{key(f"data.digest.{names.key(site)}"): value for site, value in about["digests"].items()},
        **began.tags(about),
    }
    tags |= {
        "weights_sha256": digest,
        "model": model,
        "flare.job_id": str(about["job_id"]),
        "fedsynth": about["fedsynth"],
    }
    logged = client.create_logged_model(client.get_run(run_id).info.experiment_id, model, run_id, tags)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            made = Path(temporary) / "model"
            packaging.save(made, folder, about, _described(run_id, logged))
            tags[hashes.TAG] = hashes.write(made, about, tags["git.commit"])
            papers_of = {FILE: model_card(about, facts)}
            tags |= hashes.paper_tags(papers_of)
            _write(made, papers_of)
            client.log_model_artifacts(logged.model_id, str(made))
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    _name(client, name)
    # The artifact location instead of models:/<id>, which MLflow's SQL store resolves by the global tracking URI
    # instead of the client's.
    version = client.create_model_version(
        name,
        logged.artifact_location,
        run_id,
        tags,
        description=card(about, facts),
        model_id=logged.model_id,
    )
    return str(version.version)


def judge(params: Params, root: Path, model: str, number: str, facts: dict[str, Any]) -> None:
    """Write the current facts to a version.

    Verdict, worth and measures become tags; the card becomes the description; model card and datasheet are logged to
    the version's folder. Tags of an earlier scoring are deleted. The history of the version stays in the description.
    """
    client, name = client_of(root), registered_name(root, model)
    version, about = (
        client.get_model_version(name, number),
        outputs.read(root / "models" / model / weights.ABOUT, f"train@{model}"),
    )
    # the papers first, and their tags: a judgement that is cut short is then done again
    tags = _file_papers(client, version, _papers(params, root, model, about, facts))
    tags |= {key(tag): value for tag, value in promotion.tags(facts).items()}
    for tag in set(version.tags) - set(tags):
        if tag.startswith(promotion.PREFIXES):
            client.delete_model_version_tag(name, number, tag)
    for tag, value in tags.items():
        if version.tags.get(tag) != value:
            client.set_model_version_tag(name, number, tag, value)
    _, mark, history = (version.description or "").partition(HISTORY)
    text = card(about, facts)[: LONGEST - len(mark + history)] + mark + history
    if text != version.description:
        client.update_model_version(name, number, text)


def _file_papers(client: MlflowClient, version: ModelVersion, texts: dict[str, str]) -> dict[str, str]:
    """Write papers into a version's folder, and return their tags; none where it was registered by hand."""
    made = _logged(client, version)
    for model_id in made:
        with tempfile.TemporaryDirectory() as temporary:
            _write(Path(temporary), texts)
            for name in texts:
                client.log_model_artifact(model_id, str(Path(temporary) / name))
    return hashes.paper_tags(texts) if made else {}


def _write(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())


def _described(run_id: str, logged: LoggedModel) -> Model:
    from mlflow.models import Model

    return Model(
        artifact_path=logged.artifact_location, run_id=run_id, model_uuid=logged.model_id, model_id=logged.model_id
    )


def _papers(params: Params, root: Path, model: str, about: dict[str, Any], facts: dict[str, Any]) -> dict[str, str]:
    """Return the model card and, if the scored synthetic set is in the project, the datasheet."""
    from fedsynth.data.dataset import ImageSet

    folder = root / "data" / "synthetic" / model
    if not folder.is_dir():
        return {FILE: model_card(about, facts)}
    return papers(params, about, ImageSet.load(folder, verify=False), facts)


def _logged(client: MlflowClient, version: ModelVersion) -> list[str]:
    """Return the ids of the logged model behind a version; empty if the version was registered by hand.

    MLflow's SQL store does not keep the id in the version.
    """
    outputs_of = client.get_run(version.run_id).outputs if version.run_id else None
    made = [out.model_id for out in (outputs_of.model_outputs if outputs_of else [])]
    return [model_id for model_id in made if client.get_logged_model(model_id).artifact_location == version.source]


def version_of(root: Path, model: str, number: int | None = None) -> ModelVersion:
    """Return a version of `<study>-<model>`, the newest by default.

    Raises RegistryError naming the models or versions that exist.
    """
    name = registered_name(root, model)
    _existing(root)
    versions = of_study(root)  # the model name is user input, so it is not put into the query
    found = {int(v.version): v for v in versions if v.name == name}
    if not found:
        models = ", ".join(sorted({model_of(v.name) for v in versions})) or "none"
        raise RegistryError(f"the registry has no version of a model {model!r}; models that have one: {models}")
    if number is not None and number not in found:
        raise RegistryError(f"{name} has no version {number}; there are {', '.join(map(str, sorted(found)))}")
    return found[max(found) if number is None else number]


def alias_of(root: Path, model: str, alias: str) -> str | None:
    """Return the version that has an alias; None if there is none."""
    number = client_of(root).get_registered_model(registered_name(root, model)).aliases.get(alias)
    return None if number is None else str(number)


def aliased(root: Path, alias: str) -> dict[str, str | None]:
    """Return model -> its version that has an alias, None where it has none, for all models of the study."""
    _existing(root)
    numbers = {model_of(of.name): of.aliases.get(alias) for of in models_of_study(root)}
    return {model: None if number is None else str(number) for model, number in sorted(numbers.items())}


def _existing(root: Path) -> None:
    """Raise RegistryError where there is no registry, instead of making one."""
    if not there(root):
        raise RegistryError(
            f"there is no registry in {root}; `fedsynth run` in a study's folder makes one, or set MLFLOW_TRACKING_URI"
        )


def scores_of(root: Path, version: ModelVersion) -> dict[str, float]:
    """Return the newest scores of a version: the metrics of the newest run score@<model> with its weights."""
    digest = version.tags.get("weights_sha256")
    if not version.run_id or not digest:  # registered by hand
        return {}
    client = client_of(root)
    place = client.get_run(version.run_id).info.experiment_id
    found = runs.newest(client, place, stage="score", model=model_of(version.name), weights_sha256=digest)
    return dict(sorted(found.data.metrics.items())) if found else {}


def _name(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="A federated generative model: labels in, images out.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
