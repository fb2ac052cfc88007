"""The registry of models in MLflow: weights as versions that load in a clean process, and the aliases that say which of them counts."""

from __future__ import annotations

import logging
import tempfile
import threading
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsynth import outputs, promotion, weights
from fedsynth.card import FILE, LONGEST, card, model_card, papers
from fedsynth.errors import UserError
from fedsynth.lineage import key, lineage
from fedsynth.params import Image, Params
from fedsynth.settings import quiet, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

NEEDED = ("torch", "monai", "einops", "numpy", "pandas", "safetensors", "pydantic", "pyyaml", "mlflow")  # by serving.py and the families
# fifty lines at the first use of a database, and more at each model
NOISY = ("alembic", "mlflow.store.db.utils", "mlflow.store.model_registry", "mlflow.pyfunc")
_saving = threading.Lock()  # MLflow keeps the model that a file of code sets in a global variable
CHAMPION, PREVIOUS = "champion", "previous"  # aliases: the version in use, and the one that it replaced
HISTORY = "\n\nWhat was done to this version:\n\n"  # in a description, after the card


class RegistryError(UserError):
    """A model, version or alias is not as it was asked for; the message says what there is."""


def registered_name(model: str) -> str:
    return f"fedsynth-{model}"


def registered(root: Path, params: Params) -> bool:
    """Whether the weights of every model of params.yaml, as they lie there, are in the registry with the verdict on them."""
    files = {model: root / "models" / model / weights.FILE for model in params.models}
    if not all(path.is_file() for path in files.values()):
        return False
    if not _there(root):
        return False
    client = client_of(root)
    return all(
        (number := find(client, model, weights.sha256(path))) is not None and _judged(client, root, params, model, number)
        for model, path in files.items()
    )


def _judged(client: MlflowClient, root: Path, params: Params, model: str, number: str) -> bool:
    """Whether a version's tags say what its scores say now; a model without scores has no verdict to keep."""
    if not (root / "reports" / "score" / f"{model}.json").is_file():
        return True
    from fedsynth.facts import facts

    wanted, tags = promotion.tags(facts(params, root, model)), client.get_model_version(registered_name(model), number).tags
    return all(tags.get(key(name)) == value for name, value in wanted.items())


def _there(root: Path) -> bool:
    """Whether there is a database to ask: MLflow would make one that is missing."""
    uri = tracking_uri(root)
    return not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).is_file()


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


def register(root: Path, model: str, run_id: str, facts: dict[str, Any] | None = None) -> str:
    """Put models/<model> into the registry as `fedsynth-<model>`, made by the run `run_id`, with its card. Returns the version.

    `facts` as fedsynth/facts.py gives them, None where it was not scored. The same weights are one version, however often this is called.
    Raises WeightsError where the weights are not those of model.json.
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
            (Path(temporary) / "model" / FILE).write_text(model_card(about, facts), encoding="utf-8")
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
        description=card(about, facts),
        model_id=logged.model_id,
    )
    return str(made.version)


def judge(params: Params, root: Path, model: str, number: str, facts: dict[str, Any]) -> None:
    """Write what is known now to a version: verdict, worth and measures as tags, the card as its description, both papers in its folder.

    What was done to the version stays in the description. Called again after another scoring, nothing of the one before is left.
    """
    client, name = client_of(root), registered_name(model)
    version, about = client.get_model_version(name, number), outputs.read(root / "models" / model / weights.ABOUT, f"train@{model}")
    tags = {key(tag): value for tag, value in promotion.tags(facts).items()}
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
    texts = _papers(params, root, model, about, facts)
    for made in _logged(client, version):
        with tempfile.TemporaryDirectory() as temporary:
            for paper, words in texts.items():
                path = Path(temporary) / paper
                path.write_text(words, encoding="utf-8")
                client.log_model_artifact(made, str(path))


def _papers(params: Params, root: Path, model: str, about: dict[str, Any], facts: dict[str, Any]) -> dict[str, str]:
    """What goes with the exported set: the model card, and the datasheet where the set that was scored lies in the project."""
    from fedsynth.dataset import ImageSet

    folder = root / "data" / "synthetic" / model
    if not folder.is_dir():
        return {FILE: model_card(about, facts)}
    return papers(params, about, ImageSet.load(folder, verify=False), facts)


def _logged(client: MlflowClient, version: ModelVersion) -> list[str]:
    """The id of the logged model behind a version, which MLflow's SQL store does not keep in it; none where it was registered by hand."""
    outputs_of = client.get_run(version.run_id).outputs if version.run_id else None
    made = [out.model_id for out in (outputs_of.model_outputs if outputs_of else [])]
    return [model_id for model_id in made if client.get_logged_model(model_id).artifact_location == version.source]


def version_of(root: Path, model: str, number: int | None = None) -> ModelVersion:
    """A version of `fedsynth-<model>`, the newest by default. Raises RegistryError saying which models or versions there are."""
    if not _there(root):
        raise RegistryError("there is no registry in this project yet; run the pipeline first, or set MLFLOW_TRACKING_URI")
    client, name = client_of(root), registered_name(model)
    versions = client.search_model_versions(f"name LIKE '{registered_name('%')}'")  # a person's word is no part of a query
    found = {int(v.version): v for v in versions if v.name == name}
    if not found:
        models = ", ".join(sorted({v.name.removeprefix(registered_name("")) for v in versions})) or "none"
        raise RegistryError(f"the registry has no version of a model {model!r}; models that have one: {models}")
    if number is not None and number not in found:
        raise RegistryError(f"{name} has no version {number}; there are {', '.join(map(str, sorted(found)))}")
    return found[max(found) if number is None else number]


def alias_of(root: Path, model: str, alias: str) -> str | None:
    """The version that has an alias, if any has."""
    number = client_of(root).get_registered_model(registered_name(model)).aliases.get(alias)
    return None if number is None else str(number)


def scores_of(root: Path, version: ModelVersion) -> dict[str, float]:
    """The newest scores of a version: metrics of the run score@<model> in the newest pipeline run that had this version."""
    client, model = client_of(root), version.name.removeprefix(registered_name(""))
    if not version.run_id:  # registered by hand
        return {}
    trained = client.get_run(version.run_id)
    places, title = [trained.info.experiment_id], f"{version.name} version {version.version}"
    runs = client.search_runs(places, f"tags.`registered.{model}` = '{title}'", order_by=["attributes.start_time DESC"])
    for parent in [*(run.info.run_id for run in runs), trained.data.tags.get("mlflow.parentRunId")]:
        wanted = f"tags.`mlflow.parentRunId` = '{parent}' and tags.stage = 'score' and tags.model = '{model}'"
        for run in client.search_runs(places, wanted, max_results=1):
            return dict(sorted(run.data.metrics.items()))
    return {}


def promote(
    root: Path, model: str, number: int, who: str, why: str, flow_run_id: str, compared: str = "", although: str = ""
) -> str | None:
    """Make a version the champion; the champion until now becomes `previous`. Returns the version that was replaced, if there was one.

    Who, when, why, the flow run, what the gates said, how it compared and why it was promoted nevertheless are written to the version.
    Asks no gate: fedsynth/promotion.py does, before. Raises RegistryError where it is the champion already.
    """
    tags = _words(who, why) | ({"although": _line("although", although, 1000)} if although else {})
    version, former = version_of(root, model, number), alias_of(root, model, CHAMPION)
    if former == str(number):
        raise RegistryError(f"{version.name} version {number} is the {CHAMPION} already")
    client, replaced = client_of(root), f"version {former}" if former else "nothing"
    if former:  # before the champion moves: ended between the two, a second call finds all that it needs
        client.set_registered_model_alias(version.name, PREVIOUS, former)
    client.set_registered_model_alias(version.name, CHAMPION, str(number))
    tags |= {"flow_run_id": flow_run_id, "replaced": replaced} | ({"compared": compared} if compared else {})
    _write(client, version, "promotion", tags, f"Champion in place of {replaced}")
    return former


def rollback(root: Path, model: str, who: str, why: str, flow_run_id: str) -> tuple[str, str]:
    """Make `previous` the champion again. Returns the versions (left, in use now).

    `previous` is taken away: it would name the version that was just left, and a second call would bring that back.
    Raises RegistryError where there is no previous version.
    """
    tags = _words(who, why) | {"flow_run_id": flow_run_id}
    newest = version_of(root, model)
    left, back = alias_of(root, model, CHAMPION), alias_of(root, model, PREVIOUS)
    if left is None or back is None or left == back:
        now = f"version {left} is the {CHAMPION}" if left else f"no version is the {CHAMPION}"
        raise RegistryError(f"{newest.name} has no version to go back to: {now}; promote one of 1 to {newest.version} by its number")
    client = client_of(root)
    client.set_registered_model_alias(newest.name, CHAMPION, back)
    client.delete_registered_model_alias(newest.name, PREVIOUS)
    _write(client, version_of(root, model, int(left)), "rollback", tags | {"to": f"version {back}"}, f"Left for version {back}")
    tags |= {"replaced": f"version {left}"}
    _write(client, version_of(root, model, int(back)), "promotion", tags, f"Champion again, in place of version {left}")
    return left, back


def _write(client: MlflowClient, version: ModelVersion, event: str, tags: dict[str, str], what: str) -> None:
    """What was done to a version: the last time in its tags, every time as a line at the end of its description."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    tags |= {"at": at, "gates": promotion.said(version.tags)} | (
        {"warnings": w} if (w := "; ".join(promotion.warnings(version.tags))) else {}
    )
    for name in [n for n in version.tags if n.startswith(f"{event}.") and n.removeprefix(f"{event}.") not in tags]:
        client.delete_model_version_tag(version.name, version.version, name)  # of the time before
    for name, value in tags.items():
        client.set_model_version_tag(version.name, version.version, f"{event}.{name}", value)
    more = "".join(f"; {name}: {tags[name]}" for name in ("warnings", "compared", "although") if name in tags)
    line = f"- {at} {what}, by {tags['by']}: {tags['why']} (flow run: {tags['flow_run_id']}; gates: {tags['gates']}{more})"
    client.update_model_version(version.name, version.version, _with_line(version.description or "", line))


def _with_line(description: str, line: str) -> str:
    """A description with one more line of history, as long as MLflow's database takes: the oldest lines go first, then the card's end."""
    about, _, history = description.partition(HISTORY)
    lines = [*history.splitlines(), line]
    while len(lines) > 1 and len("\n".join(lines)) > LONGEST // 2:
        lines.pop(0)
    end = HISTORY + "\n".join(lines)
    return about[: LONGEST - len(end)] + end


def _words(who: str, why: str) -> dict[str, str]:
    return {"by": _line("by", who, 100), "why": _line("why", why, 1000)}


def _line(name: str, text: str, longest: int) -> str:
    """A person's words on one line. Raises RegistryError where they are missing or too long to be kept."""
    line = " ".join(text.split())
    if not 0 < len(line) <= longest:
        raise RegistryError(f"`{name}` has {len(line)} characters; say in 1 to {longest} who decides and why")
    return line


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
