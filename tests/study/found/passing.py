"""What a study that `fedsynth init --from` writes must pass."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fedsynth import checks
from fedsynth.hospital.policy import Policy, Question, floors, simulated
from fedsynth.params import Params, names
from fedsynth.stages.ingest import ingest
from fedsynth.validation.expectations import validate


def passes(root: Path, params: Params, policy: Policy | None = None) -> None:
    """Checks find nothing, each site's images pass validation, and its policy lets all models be trained.

    `policy`: of all sites; default: the one that simulated hospitals have.
    """
    _, problems = checks.of_file(root / "params.yaml")
    assert not problems, "\n".join(map(str, problems))
    for site, rows in ingest(params, root / "data").items():
        verdict = validate(root / "data" / names.key(site), params, site, None)
        assert verdict.passed, verdict.message()
        allowed(rows, params, policy or simulated.usual())


def allowed(rows: pd.DataFrame, params: Params, policy: Policy) -> None:
    """Raise PolicyError where a site with these images would refuse to train a model of the study."""
    for name, model in params.models.items():
        config = {"name": name, "model": model.model_dump(mode="json"), "params": params.model_dump(mode="json")}
        floors.hold(policy, Question("train", config, rows=rows, min_cell=params.consortium.min_cell))
