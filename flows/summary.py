"""The summary at the end of a run, and the check whether anything must run."""

from __future__ import annotations

import json
from pathlib import Path

from fedsynth.params import Params
from fedsynth.settings import Settings, masked, tracking_uri
from flows import dvcx


def up_to_date(root: Path, params: Params, settings: Settings) -> bool:
    """Return whether DVC has nothing to do and the registry has every model's weights.

    This takes a few seconds, a flow run fifteen. Raises ParamsError with all problems of params.yaml before anything is
    started.
    """
    from fedsynth.stages import inputs

    wanted = inputs.texts(root, params, settings)
    if inputs.changed(root, wanted):
        inputs.checked(root, wanted, settings)
        return False
    stages = dvcx.graph(root)
    stale, outward = dvcx.stale(root, stages)
    if stale:
        return False
    for stage in outward:
        dvcx.Runner(root).repro(stage, lambda line: None)
    if dvcx.stale(root, stages)[0]:
        return False
    from fedsynth.registry import tracking

    return tracking.registered(root, params)


def summary(root: Path, params: Params) -> None:
    """Print the table of worth, the verdicts, and where to find the report, the runs and the flows."""
    from rich.console import Console

    from fedsynth.worth import terminal, worth

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140  # a log has no width, and the table must not be cut
    console.print(terminal.text(worth.rows(root, list(params.models))))
    for model, verdict in json.loads((root / "reports" / "verdict.json").read_text(encoding="utf-8")).items():
        failed = [g for g in verdict["gates"] if not g["held"] and g["kind"] == "require"]
        print(
            "\n".join(
                [f"gates    {model}: {verdict['said']}", *(f"         {g['gate']}: {g['reason']}" for g in failed)]
            )
        )
    for line in _stale(root):
        print(f"stale    {line}")
    print(f"report   {root / 'reports/report/index.html'}")
    print(f"runs     .venv/bin/mlflow ui --host 127.0.0.1 --backend-store-uri {masked(tracking_uri(root))}")
    print("flows    .venv/bin/prefect server start")


def _stale(root: Path) -> list[str]:
    """Return lines on versions in use that are stale; one that it is not known, where the registry does not answer."""
    from fedsynth.registry import stale

    try:
        return stale.lines(root)
    except Exception as error:  # of MLflow, SQLAlchemy or a driver: what was computed is summed up nevertheless
        return [f"not known, the registry does not answer: {masked(str(error)).splitlines()[0]}"]
