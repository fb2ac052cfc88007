"""Which models have no results in this run, and why: data/missing.json, on which the report depends.

The stage `source` begins a run with an empty file, and the flow adds the models that failed or were not asked for. So
results of an earlier version of such a model are not shown as this run's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedsynth.data import outputs
from fedsynth.params import Params
from fedsynth.params.gates import parse
from fedsynth.worth import gates
from fedsynth.worth.facts import EPSILONS

FILE = Path("data") / "missing.json"
# what a report needs of a model: without one of them it has no results, whoever ran the stages
NEEDED = ("models/{}/model.json", "models/{}/history.json", "data/synthetic/{}/manifest.csv")

Missing = dict[str, dict[str, str]]  # model -> {"stage": "train@gan", "why": the reason, "" where it was not asked for}


def write(root: Path, missing: Missing) -> None:
    outputs.write(root / FILE, missing)


def of_run(root: Path) -> Missing:
    """Return the models of which this run has no results, as the flow has written them."""
    path = root / FILE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def missing(root: Path, models: Mapping[str, Any]) -> Missing:
    """Return the same with those whose files are not there, as after `dvc repro --keep-going`."""
    found = {name: of for name, of in of_run(root).items() if name in models}
    for name in models:
        stages = ("train", "train", "sample")
        lacks = [(of, path.format(name)) for of, path in zip(stages, NEEDED, strict=True)]
        absent = next(((of, path) for of, path in lacks if not (root / path).is_file()), None)
        if name not in found and absent:
            stage, path = absent
            why = f"{path} is not there; run `dvc repro {stage}@{name}`"
            found[name] = {"stage": f"{stage}@{name}", "why": why}
    return found


def facts(params: Params, model: str, of: Mapping[str, str]) -> dict[str, Any]:
    """Return the facts of a model without results: why, and a verdict in which no gate holds."""
    asked = params.gates.model_dump()
    if params.models[model].privacy is None:
        asked["warn"] = [text for text in asked["warn"] if parse(text).name not in EPSILONS]
    verdict = gates.evaluate(asked, gates.Known({}))
    said = [gate | {"reason": f"missing: {of['stage']} failed"} for gate in verdict["gates"]]
    return {"model": model, "missing": dict(of), "verdict": verdict | {"passed": False, "gates": said}}
