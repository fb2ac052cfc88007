"""What is known of a trained model, from its files: what its run in MLflow shows, and the digest that finds it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsynth.data import outputs
from fedsynth.params import Params
from fedsynth.registry import naming, runs
from fedsynth.registry.headline import headline
from fedsynth.training import weights
from fedsynth.worth.facts import facts

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Results:
    """The results of a model; `facts` and `rows` are None where it was not scored."""

    model: str
    about: dict[str, Any]  # model.json
    history: dict[str, Any]
    facts: dict[str, Any] | None
    rows: list[dict[str, Any]] | None
    headline: dict[str, float]
    digest: str  # of params, weights, headline and rows

    def run(self, client: MlflowClient, experiment_id: str) -> str | None:
        """Return the newest run that holds them, None where there is none."""
        wanted = {runs.KIND: runs.MODEL, "model": self.model, "result": self.digest}
        found = runs.newest(client, experiment_id, **wanted)
        return found.info.run_id if found else None


def of_model(root: Path, params: Params, model: str) -> Results:
    """Read the results of a model. Raises UserError if it is not trained, or the scores belong to other weights."""
    folder, stage = root / "models" / model, f"train@{model}"
    about, history = outputs.read(folder / weights.ABOUT, stage), outputs.read(folder / "history.json", stage)
    scores = root / "reports" / "score" / f"{model}.json"
    known = facts(params, root, model) if scores.is_file() else None
    rows = outputs.read(scores, f"score@{model}")["rows"] if known else None
    numbers = headline(known, history)
    shown = [naming.of_model(params, model), about["weights_sha256"], numbers, rows]
    digest = hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()
    return Results(model, about, history, known, rows, numbers, digest)


def unknown(client: MlflowClient, root: Path, params: Params, models: Iterable[str]) -> list[str]:
    """Return those of `models` whose results no run in MLflow holds."""
    place = runs.experiment(client, root)
    return [model for model in models if of_model(root, params, model).run(client, place) is None]
