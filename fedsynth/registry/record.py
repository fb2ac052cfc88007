"""Runs of MLflow for what DVC computed without the flow: `dvc repro`, and each experiment of `dvc exp run`.

The stage `report` calls it, once all models are scored. A stage that DVC restores from its cache does not run; what it
would log was logged when it ran, and results that are in MLflow are not logged again.
"""

from __future__ import annotations

import logging
from pathlib import Path

from fedsynth.params import Params
from fedsynth.settings import masked
from fedsynth.worth.missing import missing

log = logging.getLogger(__name__)


def record(root: Path, params: Params) -> list[str]:
    """Log the results of all models that have some, if MLflow lacks any. Returns the models that it lacked.

    Versions are registered by the flow alone: an experiment is not a candidate. An error is a warning, because what was
    computed does not depend on MLflow.
    """
    try:
        from fedsynth.registry import results
        from fedsynth.registry.tracking import Tracker
        from fedsynth.registry.versions import client_of

        without = missing(root, params.models)
        models = [model for model in params.models if model not in without]
        if new := results.unknown(client_of(root), root, params, models):
            with Tracker(root, params, tags={"made.by": "dvc"}) as tracker:
                for model in models:
                    tracker.log_results(results.of_model(root, params, model))
    except Exception as error:  # of MLflow, SQLAlchemy or a driver, or MLflow is not installed
        log.warning("not in MLflow: %s", masked(str(error)).splitlines()[0])
        return []
    return new
