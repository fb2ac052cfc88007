"""Runs in MLflow as this project writes them: a study's experiment, batches, data sets, what was there before."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fedsynth.params import names, study_of
from fedsynth.registry.lineage import key
from fedsynth.registry.place import artifacts, database
from fedsynth.settings import masked

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KIND, PIPELINE, MODEL = "kind", "pipeline", "model"  # tag of a run: of a whole pipeline, or of a model in it
PARENT = "mlflow.parentRunId"
OPENS_WITH_RUNS = {"mlflow.experimentKind": "custom_model_development"}  # and not with MLflow's page for chats
LONGEST_VALUE, LONGEST_DIGEST = 6000, 36  # that MLflow takes


def experiment(client: MlflowClient, root: Path) -> str:
    """Return the id of the study's experiment, which is made where it is not there."""
    from mlflow.exceptions import MlflowException

    name = study_of(root)
    # A server has its own artifact store; with SQLite, MLflow would write artifacts to the working directory.
    place = None if database(root) is None else artifacts(root)
    if (found := client.get_experiment_by_name(name)) is None:
        try:
            return client.create_experiment(name, artifact_location=place, tags=OPENS_WITH_RUNS)
        except MlflowException:  # another process may have created it meanwhile
            if (found := client.get_experiment_by_name(name)) is None:
                raise
    return found.experiment_id


def newest(client: MlflowClient, experiment_id: str, **tags: str) -> Run | None:
    """Return the run with these tags that began last, None where there is none."""
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    found = client.search_runs([experiment_id], wanted, max_results=1, order_by=["attributes.start_time DESC"])
    return found[0] if found else None


def as_logged(params: Mapping[str, str]) -> dict[str, str]:
    """Return params as MLflow keeps them: names without strange characters, no passwords, not too long."""
    return {key(name): masked(value)[:LONGEST_VALUE] for name, value in params.items()}


def log(client: MlflowClient, run_id: str, tags: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None, metrics: Iterable[tuple[str, float, int]] = ()) -> None:  # fmt: skip
    """Log tags, params and metrics (name, value, step).

    Requests are split to the sizes that a tracking server accepts, and passwords in addresses are masked.
    """
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    for t in _chunks([RunTag(key(name), masked(value)) for name, value in (tags or {}).items()], 100):
        client.log_batch(run_id, tags=t)
    for p in _chunks([Param(name, value) for name, value in as_logged(params or {}).items()], 100):
        client.log_batch(run_id, params=p)
    for m in _chunks([Metric(key(name), float(value), now, step) for name, value, step in metrics], 1000):
        client.log_batch(run_id, metrics=m)


def log_data(client: MlflowClient, run_id: str, digests: Mapping[str, str]) -> None:
    """Log the sites' sets as data sets of a training: the site and the digest of its validation, nothing of the images.

    The digest is keyed with the site's secret (fedsynth/hospital/secret.py).
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    use = [InputTag("mlflow.data.context", "training")]
    named = {names.key(site): digest for site, digest in digests.items()}
    sets = [
        Dataset(site, digest[:LONGEST_DIGEST], "site", json.dumps({"site": site, "digest": digest}))
        for site, digest in named.items()
    ]
    client.log_inputs(run_id, [DatasetInput(of, use) for of in sets])


def _chunks(items: list, size: int) -> Iterator[list]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
